"""One file per adaptation method, named as users name it; `adapt.method` says how to add one."""
