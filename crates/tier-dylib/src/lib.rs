//! Plugins as dynamic libraries: trusted code, behind a C ABI that is checked before anything of it is called.
