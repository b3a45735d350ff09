//! In the place of WASI in a program without it: a component that asks for it is refused before any of this is reached.

use bespoke_manifest::Permissions;
use wasmtime::component::Linker;

use crate::guest::{Data, Voice};

/// Whether this program has it.
pub(crate) const HERE: bool = false;

pub(crate) struct Wasi(());

impl Wasi {
    pub(crate) fn new(_granted: &Permissions, _voice: &Voice) -> Self {
        Wasi(())
    }
}

pub(crate) fn link(_linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    Ok(())
}
