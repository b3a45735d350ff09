//! Programs on XLA for CPUs.

use std::path::{Path, PathBuf};

use bespoke_pjrt::{Client, CompileOptions, ElementType, Executable, LIBRARY_VAR, Library, PjrtError, Tensor, TensorType};

/// The plugin: from the packs of the tests, else what the user names.
fn plugin() -> PathBuf {
    let named = |variable| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let from_packs = named("BESPOKE_TEST_RUNTIMES").and_then(|root| library_below(&root.join("xla/cpu"), 4));
    from_packs.or_else(|| named(LIBRARY_VAR)).expect("this test needs XLA's PJRT plugin for CPUs; run it with: cargo xtask test")
}

fn library_below(folder: &Path, depth: usize) -> Option<PathBuf> {
    let mut entries: Vec<_> = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    let is_library = |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains("pjrt.")) && path.is_file();
    let found = entries.iter().find(is_library).cloned();
    found.or_else(|| entries.iter().rev().filter(|_| depth > 0).find_map(|path| library_below(path, depth - 1)))
}

fn client() -> Client {
    Client::new(Library::load(&plugin(), &[]).unwrap(), &[]).unwrap()
}

fn compile(client: &Client, program: &str) -> Executable {
    client.compile(program, &CompileOptions::default()).unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn run(client: &Client, program: &Executable, inputs: &[Tensor]) -> Vec<Tensor> {
    let buffers: Vec<_> = inputs.iter().map(|input| client.buffer(input, 0).unwrap()).collect();
    let results = program.execute(&buffers.iter().collect::<Vec<_>>()).unwrap();
    results.iter().map(|result| result.to_host().unwrap()).collect()
}

const ADD: &str = include_str!("../../../../examples/xla/add.mlir");
const AFFINE: &str = include_str!("../../../../examples/xla/affine.mlir");

#[test]
fn it_says_what_it_is() {
    let client = client();
    let (major, minor) = client.library().api_version();
    assert!(major == 0 && minor >= 81, "{major}.{minor}");
    assert_eq!(client.platform_name().unwrap(), "cpu");
    assert!(!client.platform_version().unwrap().is_empty());
    let attributes = client.library().attributes().unwrap();
    assert!(attributes.iter().any(|(name, _)| name == "stablehlo_current_version"), "{attributes:?}");
    let device = &client.devices()[0];
    assert_eq!((device.id(), device.kind()), (0, "cpu"));
    assert!(device.to_string().to_lowercase().contains("cpu"), "{device}");
}

#[test]
fn the_examples_run() {
    let client = client();
    let add = compile(&client, ADD);
    assert_eq!(add.inputs(), []);
    assert_eq!(run(&client, &add, &[]), [Tensor::of(&[2, 2], &[11.0_f32, 22.0, 33.0, 44.0]).unwrap()]);

    let affine = compile(&client, AFFINE);
    let written: Vec<_> = affine.inputs().iter().map(ToString::to_string).collect();
    assert_eq!(written, ["tensor<2x2xf32>", "tensor<2xf32>", "tensor<f32>"]);
    assert_eq!(affine.outputs().iter().map(ToString::to_string).collect::<Vec<_>>(), ["tensor<2xf32>", "tensor<f32>"]);
    let inputs = [
        Tensor::of(&[2, 2], &[1.0_f32, 2.0, 3.0, 4.0]).unwrap(),
        Tensor::of(&[2], &[5.0_f32, 6.0]).unwrap(),
        Tensor::of(&[], &[0.5_f32]).unwrap(),
    ];
    let results = run(&client, &affine, &inputs);
    assert_eq!(results[0].values::<f32>().unwrap(), [17.5, 39.5]);
    assert_eq!((results[1].tensor_type().dimensions.len(), results[1].values::<f32>().unwrap()), (0, vec![39.5]));
}

/// Each type goes in, is computed with, and comes out.
#[test]
fn every_element_type_goes_there_and_back() {
    fn check<T: bespoke_pjrt::Element + PartialEq + std::fmt::Debug>(client: &Client, op: &str, values: &[T; 2], expected: &[T; 2]) {
        let of = TensorType::new(T::TYPE, &[2]);
        let program = compile(client, &format!("func.func @main(%x: {of}) -> {of} {{ %y = {op} : {of}\n return %y : {of} }}"));
        assert_eq!((program.inputs(), program.outputs()), (&[of.clone()][..], &[of][..]));
        let results = run(client, &program, &[Tensor::of(&[2], values).unwrap()]);
        assert_eq!(results[0].values::<T>().as_deref(), Some(&expected[..]));
    }
    let client = client();
    let (not, add) = ("stablehlo.not %x", "stablehlo.add %x, %x");
    check(&client, not, &[true, false], &[false, true]);
    check::<i8>(&client, add, &[-64, 5], &[-128, 10]);
    check::<i16>(&client, add, &[-16384, 5], &[-32768, 10]);
    check::<i32>(&client, add, &[-5, i32::MAX / 2], &[-10, i32::MAX - 1]);
    check::<i64>(&client, add, &[-5, i64::MAX / 2], &[-10, i64::MAX - 1]);
    check::<u8>(&client, add, &[5, 127], &[10, 254]);
    check::<u16>(&client, add, &[5, 32767], &[10, 65534]);
    check::<u32>(&client, add, &[5, u32::MAX / 2], &[10, u32::MAX - 1]);
    check::<u64>(&client, add, &[5, u64::MAX / 2], &[10, u64::MAX - 1]);
    check::<f32>(&client, add, &[0.1, f32::INFINITY], &[0.2, f32::INFINITY]);
    check::<f64>(&client, add, &[0.1, 1e300], &[0.2, 2e300]);
    // Those without a type of Rust: 1.5 and -2.0, by their bits.
    let of = |element, bits: &[u8]| Tensor::new(TensorType::new(element, &[2]), bits.to_vec()).unwrap();
    for (element, values, doubled) in
        [(ElementType::F16, [0x3e00_u16, 0xc000], [0x4200_u16, 0xc400]), (ElementType::Bf16, [0x3fc0, 0xc000], [0x4040, 0xc080])]
    {
        let bytes = |values: [u16; 2]| values.map(u16::to_ne_bytes).concat();
        let tensor = TensorType::new(element, &[2]);
        let program =
            compile(&client, &format!("func.func @main(%x: {tensor}) -> {tensor} {{ %y = {add} : {tensor}\n return %y : {tensor} }}"));
        assert_eq!(run(&client, &program, &[of(element, &bytes(values))]), [of(element, &bytes(doubled))], "{element}");
    }
    for (element, real) in [(ElementType::C64, 4), (ElementType::C128, 8)] {
        let tensor = TensorType::new(element, &[2]);
        let program = compile(&client, &format!("func.func @main(%x: {tensor}) -> {tensor} {{ return %x : {tensor} }}"));
        let value = of(element, &(0..4 * real).collect::<Vec<u8>>());
        assert_eq!(run(&client, &program, std::slice::from_ref(&value)), [value]);
    }
}

#[test]
fn the_last_dimension_varies_fastest() {
    let client = client();
    let program = "func.func @main(%x: tensor<2x3x4xi32>) -> tensor<4x2x3xi32> {
        %y = stablehlo.transpose %x, dims = [2, 0, 1] : (tensor<2x3x4xi32>) -> tensor<4x2x3xi32>
        return %y : tensor<4x2x3xi32>
    }";
    let values: Vec<i32> = (0..24).collect();
    let results = run(&client, &compile(&client, program), &[Tensor::of(&[2, 3, 4], &values).unwrap()]);
    let expected: Vec<i32> = (0..4).flat_map(|k| (0..6).map(move |ij| ij * 4 + k)).collect();
    assert_eq!(results[0].values::<i32>().unwrap(), expected);
}

#[test]
fn nothing_is_a_value_too() {
    let client = client();
    let of = "tensor<0x3xf32>";
    let program = compile(&client, &format!("func.func @main(%x: {of}) -> {of} {{ %y = stablehlo.add %x, %x : {of}\n return %y : {of} }}"));
    let nothing = Tensor::of::<f32>(&[0, 3], &[]).unwrap();
    assert_eq!(run(&client, &program, std::slice::from_ref(&nothing)), [nothing]);
    let without = compile(&client, "func.func @main(%x: tensor<f32>) { return }");
    assert_eq!(run(&client, &without, &[Tensor::of(&[], &[1.0_f32]).unwrap()]), []);
}

/// A program may ask to write over its inputs; they belong to the caller.
#[test]
fn inputs_can_be_used_again() {
    let client = client();
    let of = "tensor<2xf32>";
    let program = format!(
        "func.func @main(%x: {of} {{tf.aliasing_output = 0 : i32}}) -> {of} {{ %y = stablehlo.add %x, %x : {of}\n return %y : {of} }}"
    );
    let program = compile(&client, &program);
    let input = client.buffer(&Tensor::of(&[2], &[1.0_f32, 2.0]).unwrap(), 0).unwrap();
    for _ in 0..3 {
        let results = program.execute(&[&input]).unwrap();
        assert_eq!(results[0].to_host().unwrap().values::<f32>().unwrap(), [2.0, 4.0]);
        assert_eq!(input.to_host().unwrap().values::<f32>().unwrap(), [1.0, 2.0]);
    }
}

#[test]
fn what_does_not_fit_is_refused_before_it_runs() {
    let client = client();
    let affine = compile(&client, AFFINE);
    let matrix = client.buffer(&Tensor::of(&[2, 2], &[0.0_f32; 4]).unwrap(), 0).unwrap();
    let vector = client.buffer(&Tensor::of(&[2], &[0.0_f32; 2]).unwrap(), 0).unwrap();
    let scalar = client.buffer(&Tensor::of(&[], &[0.0_f32]).unwrap(), 0).unwrap();
    let wide = client.buffer(&Tensor::of(&[2], &[0.0_f64; 2]).unwrap(), 0).unwrap();
    for (inputs, says) in [
        (&[][..], "the program takes 3 inputs, and was given 0"),
        (&[&matrix, &vector, &scalar, &scalar], "the program takes 3 inputs, and was given 4"),
        (&[&matrix, &matrix, &scalar], "input 1 is a tensor<2xf32>, and was given a tensor<2x2xf32>"),
        (&[&matrix, &wide, &scalar], "input 1 is a tensor<2xf32>, and was given a tensor<2xf64>"),
    ] {
        let error = affine.execute(inputs).unwrap_err();
        assert!(matches!(&error, PjrtError::Mismatch(words) if words == says), "{error}");
    }
    let other = Client::new(client.library(), &[]).unwrap();
    let foreign = other.buffer(&Tensor::of(&[], &[0.0_f32]).unwrap(), 0).unwrap();
    let error = affine.execute(&[&matrix, &vector, &foreign]).unwrap_err();
    assert!(error.to_string().contains("another client"), "{error}");
    affine.execute(&[&matrix, &vector, &scalar]).unwrap();
}

#[test]
fn a_bad_program_is_an_error_in_the_words_of_xla() {
    let client = client();
    for (program, words) in [
        ("", "requires module with `main` function"),
        ("no program at all", "custom op 'no' is unknown"),
        ("func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> { return %z : tensor<2xf32> }", "undeclared SSA value"),
        ("func.func @main(%x: tensor<2xf32>) -> tensor<3xf32> { return %x : tensor<2xf32> }", "return"),
        ("func.func @main() -> tensor<f32> { %x = nonsense.op : tensor<f32>\n return %x : tensor<f32> }", "nonsense.op"),
        ("func.func @other() { return }", "main"),
    ] {
        let error = client.compile(program, &CompileOptions::default()).expect_err(program);
        let PjrtError::Call { function: "PJRT_Client_Compile", message, .. } = &error else { panic!("{program}: {error}") };
        assert!(message.contains(words), "{program}: {error}");
    }
    // Bytes that are no text, and bytecode that is cut off.
    for bytes in [&[0xff_u8, 0xfe, 0][..], b"ML\xefR\x01"] {
        assert!(matches!(client.compile(bytes, &CompileOptions::default()), Err(PjrtError::Call { .. })));
    }
    // And it still works.
    assert_eq!(run(&client, &compile(&client, ADD), &[]).len(), 1);
}

/// MLIR expects a zero behind a text, which a text of Rust does not have.
#[test]
fn what_stands_behind_a_program_is_not_read() {
    let client = client();
    let text = "func.func @main() { return }func.func @main() { oops }";
    for end in [text.find("}func").unwrap() + 1, text.find("return").unwrap()] {
        let compiled = client.compile(&text[..end], &CompileOptions::default());
        assert_eq!(compiled.is_ok(), end > 25, "{:?}", compiled.map_err(|error| error.to_string()));
    }
    let error = client.compile(&"func.func @main() { oopsome"[..24], &CompileOptions::default()).unwrap_err();
    assert!(error.to_string().contains("custom op 'oops' is unknown"), "{error}");
}

#[test]
fn a_program_runs_where_it_was_compiled_for() {
    let client = client();
    // The plugin has four unless it is told otherwise.
    assert!(client.devices().len() > 1, "{:?}", client.devices());
    let last = client.devices().len() - 1;
    let of = "tensor<f32>";
    let text = format!("func.func @main(%x: {of}) -> {of} {{ %y = stablehlo.add %x, %x : {of}\n return %y : {of} }}");
    let program = client.compile(&text, &CompileOptions::on(last)).unwrap();
    let value = Tensor::of(&[], &[4.0_f32]).unwrap();
    let input = client.buffer(&value, last).unwrap();
    assert_eq!(input.device().unwrap(), Some(last));
    let results = program.execute(&[&input]).unwrap();
    assert_eq!((results[0].device().unwrap(), results[0].to_host().unwrap().values::<f32>().unwrap()), (Some(last), vec![8.0]));
    let elsewhere = client.buffer(&value, 0).unwrap();
    assert!(program.execute(&[&elsewhere]).is_err());
    let error = client.compile(&text, &CompileOptions::on(last + 1)).unwrap_err();
    assert!(error.to_string().contains(&format!("there is no device {}", last + 1)), "{error}");
}

/// Memory of this process, in bytes.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
#[cfg(target_os = "linux")]
fn many_runs_do_not_make_memory_grow() {
    let client = client();
    // A value of 64 KiB: a hundredth of the runs without freeing one would show.
    let of = "tensor<16384xf32>";
    let program = compile(&client, &format!("func.func @main(%x: {of}) -> {of} {{ %y = stablehlo.add %x, %x : {of}\n return %y : {of} }}"));
    let value = Tensor::of(&[16384], &vec![1.0_f32; 16384]).unwrap();
    let turn = || {
        let input = client.buffer(&value, 0).unwrap();
        let results = program.execute(&[&input]).unwrap();
        assert_eq!(results[0].to_host().unwrap().bytes().len(), 65536);
        assert!(program.execute(&[]).is_err());
        assert!(client.compile("nonsense", &CompileOptions::default()).is_err());
    };
    (0..500).for_each(|_| turn());
    let before = resident();
    (0..3000).for_each(|_| turn());
    let grown = resident().saturating_sub(before);
    assert!(grown < 20 << 20, "{grown} bytes more after 3000 runs");
}

#[test]
fn clients_and_programs_are_used_by_many_threads() {
    let clients = [client(), client()];
    assert!(std::ptr::eq(clients[0].library(), clients[1].library()));
    let programs: Vec<_> = clients.iter().map(|client| compile(client, AFFINE)).collect();
    std::thread::scope(|scope| {
        for thread in 0..6_usize {
            let (client, program) = (&clients[thread % 2], &programs[thread % 2]);
            scope.spawn(move || {
                for n in 0..200_u16 {
                    let x = f32::from(n) + thread as f32;
                    let inputs = [
                        Tensor::of(&[2, 2], &[1.0_f32, 0.0, 0.0, 2.0]).unwrap(),
                        Tensor::of(&[2], &[x, x]).unwrap(),
                        Tensor::of(&[], &[1.0_f32]).unwrap(),
                    ];
                    assert_eq!(run(client, program, &inputs)[0].values::<f32>().unwrap(), [x + 1.0, 2.0 * x + 1.0]);
                }
            });
        }
    });
    // What a client made outlives the word for it.
    let [first, second] = clients;
    let result = programs[0].execute(&[
        &first.buffer(&Tensor::of(&[2, 2], &[1.0_f32; 4]).unwrap(), 0).unwrap(),
        &first.buffer(&Tensor::of(&[2], &[1.0_f32; 2]).unwrap(), 0).unwrap(),
        &first.buffer(&Tensor::of(&[], &[1.0_f32]).unwrap(), 0).unwrap(),
    ]);
    drop((first, programs));
    assert_eq!(result.unwrap()[0].to_host().unwrap().values::<f32>().unwrap(), [3.0, 3.0]);
    assert_eq!(run(&second, &compile(&second, ADD), &[]).len(), 1);
}
