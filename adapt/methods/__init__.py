"""One file per adaptation method, named as users name it; `adapt.core.method` says how to add one."""
