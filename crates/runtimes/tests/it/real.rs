//! The packs that `cargo xtask test` installed from a real index, by the table of the program.

use std::{env, sync::atomic::AtomicBool};

use bespoke_runtimes::{Origin, Packs, Spec};

#[test]
fn packs_of_a_real_index_are_what_the_table_says() {
    let root = env::var_os("BESPOKE_TEST_RUNTIMES").filter(|root| !root.is_empty());
    let root = root.expect("BESPOKE_TEST_RUNTIMES names the folder of the test packs: run the tests with `cargo xtask test`");
    let packs = Packs::new(root);
    let platform = packs.platform.expect("tests run where there are packs");
    for spec in [Spec::OnnxCpu, Spec::XlaCpu, Spec::CudaNvrtc] {
        let Some(pack) = packs.table().of(spec, platform).next() else { continue };
        let found = packs.find(spec).unwrap();
        assert_eq!((&found.version, found.origin), (&pack.version, Origin::Installed));
        assert!(found.library.is_absolute() && found.library.ends_with(&pack.library));
        let verified = packs.verify(spec, Some(&pack.version), &mut |_| {}, &AtomicBool::new(false)).unwrap();
        assert_eq!(verified[0].problems, []);
    }
}
