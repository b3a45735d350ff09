//! What is no plugin, or a broken one, is refused in words; and whatever a plugin made is freed, in order.

use std::{
    ffi::c_int,
    path::{Path, PathBuf},
    process::Command,
};

use bespoke_pjrt::{Client, CompileOptions, ErrorCode, Library, PjrtError, Tensor, TensorType, Value};
use tempfile::TempDir;

/// A plugin made from `fake.c` with these macros.
fn fake(folder: &TempDir, macros: &[&str]) -> PathBuf {
    let name = macros.join("_").replace('=', "_");
    let library = folder.path().join(format!("fake_{name}.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fake.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-o"])
        .arg(&library)
        .args(macros.iter().map(|name| format!("-D{name}")))
        .arg(source)
        .output()
        .expect("a C compiler, `cc`");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    library
}

#[allow(unsafe_code)] // a symbol of our own library
fn live(library: &Path) -> [c_int; 5] {
    // SAFETY: the library is loaded and stays; the symbol is an array of five ints.
    unsafe {
        let again = libloading::Library::new(library).expect("loaded already");
        let found = again.get::<*const [c_int; 5]>(b"fake_live\0").expect("is there");
        (*found).read()
    }
}

#[test]
fn what_is_no_plugin_is_refused_before_the_first_call() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.so");
    std::fs::write(&text, "no library").unwrap();
    for (path, says) in [
        (folder.path().join("absent.so"), "absent.so cannot be loaded: No such file"),
        (text, "text.so cannot be loaded: "),
        (folder.path().to_owned(), "cannot be loaded: "),
        (fake(&folder, &["NO_ENTRY"]), "is no usable PJRT plugin: it has no function GetPjrtApi"),
        (fake(&folder, &["NO_TABLE"]), "is no usable PJRT plugin: GetPjrtApi returns no table"),
        (fake(&folder, &["COUNT=-2"]), "is no usable PJRT plugin: its table is said to take 24 bytes"),
        (fake(&folder, &["COUNT=100000000"]), "is no usable PJRT plugin: its table is said to take"),
        (fake(&folder, &["VERSION_SIZE=0"]), "is no usable PJRT plugin: its table has no version"),
        (fake(&folder, &["MAJOR=1"]), "cannot be used: its PJRT API 1.81 is newer than this program, which speaks 0.x"),
        (fake(&folder, &["MAJOR=-1"]), "cannot be used: its PJRT API -1.81 is older than this program"),
        (fake(&folder, &["COUNT=91"]), "cannot be used: its PJRT API 0.81 is too old: 92 functions are needed, and it has 91"),
        (fake(&folder, &["ABSENT=55"]), "its PJRT API 0.81 has no PJRT_LoadedExecutable_Execute, which is needed"),
        (fake(&folder, &["ABSENT=0"]), "its PJRT API 0.81 has no PJRT_Error_Destroy, which is needed"),
    ] {
        let error = Library::load(&path, &[]).expect_err(says).to_string();
        assert!(error.contains(says) && error.contains(&*path.to_string_lossy()), "{error}");
    }
}

#[test]
fn a_library_that_is_needed_first_is_named_when_it_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = fake(&folder, &[]);
    let first = folder.path().join("libcudart.so.13");
    let error = Library::load(&plugin, std::slice::from_ref(&first)).unwrap_err();
    assert!(matches!(&error, PjrtError::Load { path, .. } if *path == first), "{error}");
    // It can be put there, and then it works.
    std::fs::copy(fake(&folder, &["NO_ENTRY"]), &first).unwrap();
    Library::load(&plugin, &[first]).unwrap();
}

#[test]
fn one_file_is_one_library_by_whatever_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = fake(&folder, &[]);
    let link = folder.path().join("link.so");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let first = Library::load(&file, &[]).unwrap();
    let all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| Library::load(&link, &[]).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(all.iter().all(|library| std::ptr::eq(*library, first)));
    assert_eq!((first.path(), first.api_version()), (file.as_path(), (0, 81)));
}

#[test]
fn errors_come_in_the_words_of_the_plugin_and_are_freed() {
    let folder = tempfile::tempdir().unwrap();
    for (macros, code, words) in [
        (&["BAD_START"][..], ErrorCode::FAILED_PRECONDITION, "something is not as it should be"),
        (&["BAD_START", "SILENT"], ErrorCode::FAILED_PRECONDITION, "the plugin said nothing"),
        (&["BAD_START", "NO_CODE"], ErrorCode(2), "something is not as it should be"),
    ] {
        let file = fake(&folder, macros);
        let error = Library::load(&file, &[]).unwrap_err();
        let PjrtError::Call { function: "PJRT_Plugin_Initialize", code: told, message } = &error else { panic!("{error}") };
        assert_eq!((*told, message.as_str()), (code, words), "{macros:?}");
        assert_eq!(live(&file), [0; 5], "{macros:?}");
        // The second time it starts.
        Library::load(&file, &[]).unwrap();
    }
}

#[test]
fn what_it_tells_of_itself_is_read_as_long_as_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::load(&fake(&folder, &[]), &[]).unwrap();
    let told = library.attributes().unwrap();
    let expected = [
        ("words", Value::String("hello".into())),
        ("count", Value::Int(-7)),
        ("version", Value::Ints(vec![1, 2, 3])),
        ("share", Value::Float(0.5)),
        ("yes", Value::Bool(true)),
    ];
    assert_eq!(told, expected.map(|(name, value)| (name.to_owned(), value)));
    assert_eq!(told[2].1.to_string(), "1.2.3");
    let without = Library::load(&fake(&folder, &["ABSENT=4"]), &[]).unwrap();
    assert_eq!(without.attributes().unwrap(), []);
}

/// Whatever the order in which they are let go, the client is freed last, or the plugin aborts.
#[test]
fn everything_is_freed_and_the_client_last() {
    let folder = tempfile::tempdir().unwrap();
    let file = fake(&folder, &[]);
    let client = Client::new(Library::load(&file, &[]).unwrap(), &[("preallocate", Value::Bool(false))]).unwrap();
    assert_eq!(client.platform_name().unwrap(), "f\u{fffd}ke");
    assert_eq!(client.devices()[0].to_string(), "device 11");
    let error = client.compile("bad", &CompileOptions::default()).unwrap_err();
    assert!(error.to_string().contains("something is not as it should be (failed precondition, from PJRT_Client_Compile)"), "{error}");
    let program = client.compile("good", &CompileOptions::default()).unwrap();
    let told = |types: &[TensorType]| types.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!((told(program.inputs()), told(program.outputs())), (vec!["tensor<2xf32>".into()], vec!["tensor<2xf32>".into()]));
    let input = client.buffer(&Tensor::of(&[2], &[0.0_f32; 2]).unwrap(), 0).unwrap();
    assert!(client.buffer(&Tensor::of(&[2], &[0.0_f32; 2]).unwrap(), 1).unwrap_err().to_string().contains("there is only device 0"));
    assert_eq!(input.device().unwrap(), None);
    drop(client);
    // The plugin would look for one that is not there.
    assert!(matches!(program.execute(&[]), Err(PjrtError::Mismatch(_))));
    let results = program.execute(&[&input]).unwrap();
    assert_eq!(live(&file), [0, 1, 1, 2, 0]);
    drop((program, input));
    assert_eq!(results[0].to_host().unwrap().values::<f32>().unwrap(), [1.5, -2.0]);
    assert_eq!(live(&file), [0, 1, 0, 1, 0]);
    drop(results);
    assert_eq!(live(&file), [0; 5]);
}

#[test]
fn answers_that_cannot_be_are_errors_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let input = Tensor::of(&[2], &[0.0_f32; 2]).unwrap();
    for (macros, says) in [
        ("DEVICES=0", "PJRT_Client_AddressableDevices with no device"),
        ("DEVICES=2", "the program is for 2 devices"),
        ("OUTPUTS=3", "1 outputs, 3 types and 3 shapes"),
        ("ELEMENT=21", "element type 21 of PJRT cannot be used here"),
        ("NO_RESULT", "fewer results than it has"),
        ("BAD_EVENTS", "something is not as it should be"),
        ("NEGATIVE", "a negative dimension"),
        ("ABSENT=48", "the plugin does not say what the program takes"),
        ("NO_INPUTS", "the plugin does not say what the program takes"),
    ] {
        let file = fake(&folder, &[macros]);
        let library = Library::load(&file, &[]).unwrap();
        let tried = || {
            let client = Client::new(library, &[])?;
            let program = client.compile("good", &CompileOptions::default())?;
            let input = client.buffer(&input, 0)?;
            program.execute(&[&input])?.remove(0).to_host()
        };
        let error = tried().expect_err(says).to_string();
        assert!(error.contains(says), "{macros}: {error}");
        assert_eq!(live(&file), [0; 5], "{macros}");
    }
}
