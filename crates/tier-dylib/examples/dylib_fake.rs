//! The plugin `fake` as a library, for tests.

bespoke_guest_dylib::export!(bespoke_fake::BESPOKE_PLUGIN);
