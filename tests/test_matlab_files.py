"""MATLAB files of SBD: those that SciPy writes are read alike; damaged ones are refused, whatever the damage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import loadmat, savemat
from scipy.sparse import csc_matrix

from adapt.datasets.matlab import struct_field
from adapt.datasets.voc import sbd_label
from tests.tools.mutations import changed_bytes


def written(path, compressed=True, label=None):
    """A file with the fields of SBD's, the labels between the others, and another variable before."""
    label = np.arange(15, dtype=np.uint8).reshape(3, 5) if label is None else label
    borders = np.empty((2, 1), object)
    borders[0, 0], borders[1, 0] = csc_matrix(np.eye(3)), csc_matrix((3, 5))
    content = {"Boundaries": borders, "Segmentation": label, "CategoriesPresent": np.array([[3.0], [7.0]])}
    savemat(path, {"first": np.zeros((2, 2)), "GTcls": content}, do_compression=compressed)
    return path


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("kind", ["u1", "i2", "f8", "i8", "f4"])
def test_labels_are_those_that_scipy_reads(tmp_path, compressed, kind):
    label = np.random.default_rng(0).integers(0, 21, (7, 4)).astype(kind)
    path = written(tmp_path / "l.mat", compressed, label)
    assert np.array_equal(sbd_label(path), loadmat(path)["GTcls"][0]["Segmentation"][0])
    assert sbd_label(path).dtype == np.int64
    assert np.array_equal(struct_field(path, "GTcls", "CategoriesPresent"), [[3], [7]])


@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_matlab_files_are_read_or_refused(tmp_path, compressed):
    """Formerly SciPy's reader ended the process on some of them."""
    data = written(tmp_path / "l.mat", compressed).read_bytes()
    rng, refused = np.random.default_rng(0), 0
    for content in [data[:n] for n in range(0, len(data), 7)] + [changed_bytes(rng, data) for _ in range(400)]:
        (tmp_path / "l.mat").write_bytes(content)
        try:
            assert sbd_label(tmp_path / "l.mat").dtype == np.int64
        except ValueError as error:
            refused += 1
            assert str(error).startswith(f"cannot read {tmp_path / 'l.mat'} (") and len(str(error)) < 500
    assert refused > 100


def test_what_a_matlab_file_lacks_is_said(tmp_path):
    path = written(tmp_path / "l.mat")
    for words, said in ((("GTinst", "Segmentation"), "no GTinst, only first, GTcls"), (("GTcls", "x"), "no field x")):
        with pytest.raises(ValueError, match=said):
            struct_field(path, *words)
    with pytest.raises(ValueError, match="class 1, not of real numbers"):
        struct_field(path, "GTcls", "Boundaries")
    for label, said in ((np.full((2, 2), np.nan), "float64"), (np.full((2, 2, 2), 3), "must be classes"), ("x", "4")):
        with pytest.raises(ValueError, match=said):
            sbd_label(written(path, label=label))
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512))
    with pytest.raises(ValueError, match=r"no MATLAB file of version 5\); unpack its archive again"):
        sbd_label(path)
