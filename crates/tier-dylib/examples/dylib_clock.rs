//! The plugin `clock` as a library, for tests.

bespoke_guest_dylib::export!(bespoke_tool_clock::BESPOKE_PLUGIN);
