//! `runtime`: programs on XLA for CPUs, from the command line to what is printed; and what cannot be run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::program::User;

/// XLA's PJRT plugin for CPUs: from the packs of the tests, else what the user names.
fn xla() -> PathBuf {
    fn below(folder: &Path, depth: usize) -> Option<PathBuf> {
        let mut entries: Vec<_> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        let is_library = |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains("pjrt.")) && path.is_file();
        let found = entries.iter().find(is_library).cloned();
        found.or_else(|| entries.iter().rev().filter(|_| depth > 0).find_map(|path| below(path, depth - 1)))
    }
    let named = |variable| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let from_packs = named("BESPOKE_TEST_RUNTIMES").and_then(|root| below(&root.join("xla/cpu"), 4));
    from_packs
        .or_else(|| named("PJRT_PLUGIN_LIBRARY_PATH"))
        .expect("this test needs XLA's PJRT plugin for CPUs; run it with: cargo xtask test")
}

/// Somebody who has it: as an installed pack where the tests have packs, else by the variable. And where it is told to come from.
fn owner() -> (User, &'static str) {
    let packs = std::env::var_os("BESPOKE_TEST_RUNTIMES").filter(|value| !value.is_empty()).map(PathBuf::from);
    match packs.filter(|root| root.join("xla/cpu").is_dir()) {
        Some(root) => {
            assert!(root.ends_with("runtimes"), "{}", root.display());
            let dir = serde_json::json!(root.parent().unwrap());
            (User::new().configured(&format!("[plugins]\ndir = {dir}\n")), "installed ")
        }
        None => (User::new().with("PJRT_PLUGIN_LIBRARY_PATH", xla()), "PJRT_PLUGIN_LIBRARY_PATH"),
    }
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/xla").join(name);
    path.to_str().unwrap().to_owned()
}

const INPUTS: [&str; 6] = ["--input", "[[1, 2], [3, 4]]", "--input", "[5, 6]", "--input", "-0.5"];

#[test]
fn a_program_runs_and_prints_what_it_returns() {
    let (user, origin) = owner();
    let add = user.run(["runtime", "run", "xla:cpu", &example("add.mlir")]).ok();
    assert_eq!((add.out.as_str(), add.err.as_str()), ("[[11.0, 22.0], [33.0, 44.0]] : tensor<2x2xf32>\n", ""));

    let affine = example("affine.mlir");
    let args = ["runtime", "run", "xla:cpu", &affine].into_iter().chain(INPUTS);
    assert_eq!(user.run(args.clone()).ok().out, "[16.5, 38.5] : tensor<2xf32>\n38.5 : tensor<f32>\n");
    let told = user.json(args.clone().chain(["--json"]));
    assert_eq!(told["results"][0]["value"], serde_json::json!([16.5, 38.5]));
    assert_eq!(told["results"][1]["type"], "tensor<f32>");
    assert_eq!((&told["runtime"], &told["platform"]), (&"xla:cpu".into(), &"cpu".into()));
    assert!(told["origin"].as_str().is_some_and(|told| told.starts_with(origin)), "{told}");
    assert!(told["run_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{told}");

    let ended = user.run(args.chain(["--device", "1", "--log-level", "info"])).ok().says("PJRT API 0.").says("platform cpu").says("ran in");
    assert!(ended.err.contains("id=1"), "{}", ended.err);
}

#[test]
fn the_devices_of_a_runtime_are_listed() {
    let library = xla();
    let library = library.to_str().unwrap();
    let user = User::new();
    let listed = user.run(["runtime", "devices", "xla:cpu", "--library", library]).ok();
    assert!(listed.out.starts_with("DEVICE  KIND  NAME\n0       cpu "), "{}", listed.out);
    let told = user.json(["runtime", "devices", "xla:cpu", "--library", library, "--json"]);
    assert_eq!((&told["devices"][0]["kind"], &told["origin"]), (&"cpu".into(), &"--library".into()));
    assert!(told["attributes"]["stablehlo_current_version"].is_string(), "{told}");
}

#[test]
fn what_cannot_be_run_is_told_and_with_which_exit_code() {
    let user = User::new().with("PJRT_PLUGIN_LIBRARY_PATH", xla());
    let (add, affine) = (example("add.mlir"), example("affine.mlir"));
    let bad = user.work("bad.mlir");
    fs::write(&bad, "func.func @main() { oops").unwrap();
    let text = user.work("text.so");
    fs::write(&text, "no library").unwrap();
    let (bad, text) = (bad.to_str().unwrap(), text.to_str().unwrap());
    for (code, says, args) in [
        (3, "absent.mlir: no such file", &["xla:cpu", "absent.mlir"][..]),
        (1, "cannot be read: ", &["xla:cpu", "."]),
        (1, "bad.mlir does not compile: -:1:21: error: custom op 'oops' is unknown", &["xla:cpu", bad]),
        (3, "did you mean xla:cpu?", &["xla:cup", &add]),
        (2, "plugins do that with their own", &["onnx:cpu", &add]),
        (2, "runs no programs by itself", &["cuda:nvrtc", &add]),
        (3, "absent.so cannot be loaded: ", &["xla:cpu", &add, "--library", "absent.so"]),
        (1, "text.so cannot be loaded: ", &["xla:cpu", &add, "--library", text]),
        (
            2,
            "the program takes 3 inputs, tensor<2x2xf32>, tensor<2xf32>, tensor<f32>; there is one --input",
            &["xla:cpu", &affine, "--input", "1"],
        ),
        (2, "the program takes no input; there is one --input", &["xla:cpu", &add, "--input", "1"]),
        (2, "input 0 is no JSON", &["xla:cpu", &add, "--input", "[1,"]),
        (3, "and no device 99", &["xla:cpu", &add, "--device", "99"]),
        (2, "invalid value 'x' for '--device", &["xla:cpu", &add, "--device", "x"]),
    ] {
        user.run(["runtime", "run"].iter().chain(args)).code(code).nothing().says(says);
    }
    let shapes = ["--input", "[[1, 2], [3, 4]]", "--input", "[5, 6, 7]", "--input", "1"];
    let args = ["runtime", "run", "xla:cpu", &affine].into_iter().chain(shapes);
    user.run(args).code(2).nothing().says("input 1 is a list of 3, where tensor<2xf32> has 2");
}

#[test]
fn a_runtime_that_is_not_here_is_named_with_the_command_that_brings_it() {
    let user = User::new();
    let add = example("add.mlir");
    let ended = user.run(["runtime", "run", "xla:cpu", &add]).code(3).nothing();
    assert!(ended.err.contains("bespoke plugin install xla:cpu") && ended.err.contains("PJRT_PLUGIN_LIBRARY_PATH"), "{}", ended.err);
}

/// What was asked of one device does not run on another.
#[test]
fn a_library_for_another_device_is_refused() {
    let library = xla();
    let library = library.to_str().unwrap();
    let user = User::new();
    let (add, named) = (example("add.mlir"), ["--library", library]);
    for args in [&["run", "xla:cuda", &*add][..], &["devices", "xla:tpu"]] {
        let args = ["runtime"].iter().chain(args).chain(&named);
        let says = "was asked for, and this library runs on cpu";
        user.run(args).code(1).nothing().says(says).says("try: bespoke runtime run xla:cpu FILE");
    }
}
