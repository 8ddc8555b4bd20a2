"""Reports: offline HTML pages, tables of several runs, figures and animated GIFs.

In: run folders of `agents.train` and `agents.evaluate`.
Out: `report.html`, comparison tables in Markdown and HTML.
"""
