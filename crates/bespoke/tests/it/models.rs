//! Model files: fetched for plugins of every tier, read again, deleted. Whatever comes from a server, a folder or a disk, only the pinned
//! bytes are a model.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::program::{Ended, User, files_below};

/// How a server answers for one path.
#[derive(Clone)]
enum Answer {
    Bytes(Vec<u8>),
    /// Promises all of it, and sends so many bytes.
    Cut(Vec<u8>, usize),
    Status(u16),
}

/// A server of files, and what was asked of it.
#[derive(Clone)]
struct Server {
    address: String,
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Server { address, answers: Arc::default(), asked: Arc::default() };
        let serving = server.clone();
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| serving.answer(stream)));
        server
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && head.len() < 1 << 16 && stream.read(&mut byte).is_ok_and(|n| n == 1) {
            head.push(byte[0]);
        }
        let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
        self.asked.lock().unwrap().push(path.clone());
        let answer = self.answers.lock().unwrap().get(&path).cloned().unwrap_or(Answer::Status(404));
        let (status, body, sent) = match answer {
            Answer::Bytes(body) => (200, body.clone(), body.len()),
            Answer::Cut(body, sent) => (200, body, sent),
            Answer::Status(status) => (status, Vec::new(), 0),
        };
        let head = format!("HTTP/1.1 {status} So\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        // One that hangs up has its reasons.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..sent]));
    }

    fn serve(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// What was asked since somebody asked this.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    /// An entry of a manifest for these bytes, which come from here.
    fn model(&self, file: &str, bytes: &[u8], path: &str) -> String {
        let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "[[models]]\nfile = \"{file}\"\nversion = \"v3\"\nsize = {}\nsha256 = \"{digest}\"\nlicense = \"MIT\"\n[[models.sources]]\nurl = \"{}{path}\"\n",
            bytes.len(),
            self.address
        )
    }
}

/// A user whose own plugins need no files that he has not.
fn user() -> User {
    User::new().configured("[plugins.smol]\nenabled = false\n[plugins.moonshine]\nenabled = false\n")
}

/// A plugin in a folder, which leaves a trace if anybody runs it.
fn plugin(user: &User, id: &str, models: &str) -> PathBuf {
    let folder = user.home().join("plugins").join(id);
    fs::create_dir_all(&folder).unwrap();
    let manifest = format!(
        "id = \"{id}\"\nversion = \"1.0.0\"\nlicense = \"MIT\"\ndescription = \"Needs a file.\"\nauthor = \"Somebody\"\nprotocol = \"1\"\n\
         tiers = [\"process\"]\n[[provides]]\nkind = \"tool\"\nname = \"{}\"\n[process]\ncommand = [\"python3\", \"run.py\"]\n{models}",
        id.replace('-', "_")
    );
    fs::write(folder.join("plugin.toml"), manifest).unwrap();
    fs::write(folder.join("run.py"), "import sys\nprint('somebody ran me', file=sys.stderr, flush=True)\n").unwrap();
    folder
}

fn kept(user: &User, name: &str) -> PathBuf {
    user.home().join("models").join(name)
}

fn verify(user: &User) -> Ended {
    user.run(["models", "verify"])
}

/// The states of `models verify` or `models list`, by file.
fn states(listing: &Value) -> Vec<(String, String)> {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let mut rows: Vec<_> = listing
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (format!("{}/{}", text(row, "plugin"), text(row, "file")), text(row, "state")))
        .collect();
    rows.retain(|(file, _)| !["moonshine/", "smol/", "silero/"].iter().any(|id| file.starts_with(id)));
    rows
}

#[test]
fn files_of_every_plugin_are_fetched_and_one_that_fails_keeps_nobody_from_the_others() {
    let (user, server) = (user(), Server::new());
    server.serve("/a", Answer::Bytes(b"first".to_vec()));
    server.serve("/c", Answer::Bytes(b"third".to_vec()));
    plugin(&user, "first-one", &server.model("a.bin", b"first", "/a"));
    let two = server.model("b.bin", b"second", "/b") + &server.model("deep/c.bin", b"third", "/c");
    plugin(&user, "second-one", &two);

    let dry = user.run(["plugin", "download-files", "--dry-run"]).ok().says("3 files (16 B) would be fetched into");
    for cell in ["first-one", "a.bin", "v3", "5 B", "MIT", &format!("{}/a", server.address)] {
        assert!(dry.out.contains(cell), "`{cell}` is not in {}", dry.out);
    }
    let listed = user.json(["plugin", "download-files", "--dry-run", "--json", "--plugin", "first-one"]);
    assert_eq!(
        (&listed[0]["version"], &listed[0]["size"], &listed[0]["license"], listed.as_array().unwrap().len()),
        (&json!("v3"), &json!(5), &json!("MIT"), 1)
    );
    assert_eq!(server.asked(), [""; 0], "a dry run asks nobody");

    let ended = user.run(["plugin", "download-files"]).code(1).nothing();
    let ended = ended.says("2 files fetched, 1 not: second-one/b.bin").says("try: bespoke models list");
    let failed: Vec<_> = ended.err.lines().filter(|line| line.contains("not fetched")).collect();
    assert!(failed.len() == 1 && failed[0].starts_with("second-one: b.bin not fetched: ") && failed[0].contains("404"), "{failed:?}");
    assert_eq!(
        (fs::read(kept(&user, "first-one/a.bin")).unwrap(), fs::read(kept(&user, "second-one/deep/c.bin")).unwrap()),
        (b"first".to_vec(), b"third".to_vec())
    );
    assert!(!kept(&user, "second-one/b.bin").exists());

    // What is here is not asked for again.
    server.asked();
    server.serve("/b", Answer::Bytes(b"second".to_vec()));
    let told = user.json(["plugin", "download-files", "--json"]);
    assert_eq!(told, json!([{ "plugin": "second-one", "file": "b.bin", "fetched": true, "error": null }]));
    assert_eq!(server.asked(), ["/b"]);
    user.run(["plugin", "download-files"]).ok().nothing().says("every model file that is needed is here");
    assert_eq!(server.asked(), [""; 0]);
    verify(&user).ok().says("3 files read, all as they should be");
    let was_run = || fs::read_to_string(user.home().join("logs/plugins.log")).is_ok_and(|log| log.contains("somebody ran me"));
    assert!(!was_run(), "nothing of a plugin in a folder is run");
    user.run(["plugin", "list", "--start"]).ok();
    assert!(was_run(), "one that is run can be told");
}

#[test]
fn a_wrong_truncated_or_replaced_file_is_refused_and_fetched_again() {
    let (user, server) = (user(), Server::new());
    let right = vec![7; 5_000];
    server.serve("/m", Answer::Bytes(right.clone()));
    plugin(&user, "ear", &server.model("m.bin", &right, "/m"));
    let path = kept(&user, "ear/m.bin");
    user.run(["plugin", "download-files"]).ok();
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    let mut other = right.clone();
    other[4_000] ^= 1;
    let spoil: &[(&str, &dyn Fn())] = &[
        ("wrong", &|| fs::write(&path, &other).unwrap()),
        ("wrong, as old as the right one", &|| {
            fs::write(&path, &other).unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
        }),
        ("truncated", &|| fs::write(&path, &right[..4_999]).unwrap()),
        ("empty", &|| fs::write(&path, "").unwrap()),
        ("replaced by the text that a placeholder has", &|| {
            fs::remove_file(&path).unwrap();
            fs::write(&path, "placeholder").unwrap();
        }),
    ];
    for (what, spoil) in spoil {
        spoil();
        server.asked();
        let told = verify(&user).code(6).says("1 file wrong").says("try: bespoke plugin download-files ear");
        assert!(told.out.contains("wrong") && told.out.contains("ear/m.bin"), "{what}: {}", told.out);
        let listed = user.json(["models", "list", "--json"]);
        assert_eq!(states(&listed), [("ear/m.bin".to_owned(), "missing".to_owned())], "{what}");
        user.run(["plugin", "download-files", "ear"]).ok().says("1 file fetched");
        assert_eq!(server.asked(), ["/m"], "{what}");
        assert_eq!(fs::read(&path).unwrap(), right, "{what}");
        verify(&user).ok();
    }
    fs::remove_file(&path).unwrap();
    verify(&user).code(6).says("1 file missing").says("try: bespoke plugin download-files ear");
}

#[test]
fn what_a_server_sends_is_checked_before_it_is_a_model() {
    let (user, server) = (user(), Server::new());
    let right = vec![9; 3_000];
    plugin(&user, "ear", &server.model("m.bin", &right, "/m"));
    for (what, answer) in [
        ("other bytes of the right length", Answer::Bytes(vec![8; 3_000])),
        ("too short", Answer::Bytes(right[..2_999].to_vec())),
        ("too long", Answer::Bytes([right.clone(), vec![9]].concat())),
        ("cut off", Answer::Cut(right.clone(), 1_000)),
        ("a page", Answer::Bytes(b"<html>please log in</html>".to_vec())),
        ("an error", Answer::Status(403)),
    ] {
        server.serve("/m", answer);
        user.run(["plugin", "download-files"]).code(1).nothing().says("0 files fetched, 1 not: ear/m.bin");
        assert!(!kept(&user, "ear/m.bin").exists(), "{what}");
    }
    server.serve("/m", Answer::Bytes(right.clone()));
    user.run(["plugin", "download-files"]).ok();
    assert_eq!(fs::read(kept(&user, "ear/m.bin")).unwrap(), right);
}

/// LiveKit-Go keyed its hashes by the file's name, so that one model was checked against the hash of another.
#[test]
fn seed_000_files_of_one_name_keep_their_own_hashes() {
    let (user, server) = (user(), Server::new());
    server.serve("/en", Answer::Bytes(b"english".to_vec()));
    server.serve("/de", Answer::Bytes(b"deutsch".to_vec()));
    plugin(&user, "english", &server.model("model.onnx", b"english", "/en"));
    let both = server.model("model.onnx", b"deutsch", "/de") + &server.model("en/model.onnx", b"english", "/en");
    plugin(&user, "german", &both);
    user.run(["plugin", "download-files"]).ok().says("3 files fetched");
    verify(&user).ok().says("3 files read");
    fs::copy(kept(&user, "english/model.onnx"), kept(&user, "german/model.onnx")).unwrap();
    let told = verify(&user).code(6).says("1 file wrong, of 3 files").says("download-files german");
    assert!(!told.err.contains("english"), "{}", told.err);
    // A file in the folder beside it does not stand in for it.
    fs::remove_file(kept(&user, "german/model.onnx")).unwrap();
    let listed = user.json(["models", "--json"]);
    let expected = [("english/model.onnx", "here"), ("german/model.onnx", "missing"), ("german/en/model.onnx", "here")];
    assert_eq!(states(&listed), expected.map(|(file, state)| (file.to_owned(), state.to_owned())));
}

#[test]
fn the_folders_of_bespoke_model_path_go_first_and_are_left_alone() {
    let (user, server) = (user(), Server::new());
    server.serve("/m", Answer::Bytes(b"right".to_vec()));
    plugin(&user, "ear", &server.model("m.bin", b"right", "/m"));
    user.run(["plugin", "download-files"]).ok();
    server.asked();
    let theirs = user.work("theirs");
    fs::create_dir_all(theirs.join("ear")).unwrap();
    fs::write(theirs.join("ear/m.bin"), "right").unwrap();
    let user = user.with("BESPOKE_MODEL_PATH", &theirs);
    let path = |user: &User| {
        user.json(["models", "--json"]).as_array().unwrap().iter().find(|row| row["plugin"] == "ear").unwrap()["path"].clone()
    };
    assert_eq!(path(&user), json!(theirs.join("ear/m.bin")));
    // A wrong one there is passed over, told, and neither replaced nor deleted.
    fs::write(theirs.join("ear/m.bin"), "wrong").unwrap();
    assert_eq!(path(&user), json!(kept(&user, "ear/m.bin")));
    verify(&user).code(6).says("1 file wrong").says(&format!("try: rm '{}'", theirs.join("ear/m.bin").display()));
    user.run(["models", "remove", "--all", "--yes"]).ok().says("1 file deleted, 5 B freed");
    user.run(["plugin", "download-files"]).ok().says("1 file fetched");
    assert_eq!((fs::read(theirs.join("ear/m.bin")).unwrap(), server.asked()), (b"wrong".to_vec(), vec!["/m".to_owned()]));
    // With the file there alone, nothing is fetched, and there is nothing to delete.
    fs::write(theirs.join("ear/m.bin"), "right").unwrap();
    fs::remove_file(kept(&user, "ear/m.bin")).unwrap();
    user.run(["plugin", "download-files", "ear"]).ok().says("every model file that is needed is here");
    user.run(["models", "remove", "ear", "--yes"]).ok().says("nothing of ear is in");
    assert_eq!(files_below(&theirs).len(), 1, "nothing is written beside it");
}

#[test]
fn what_plugins_do_without_comes_with_all_only() {
    let (user, server) = (user(), Server::new());
    server.serve("/m", Answer::Bytes(b"right".to_vec()));
    plugin(&user, "ear", &server.model("m.bin", b"right", "/m"));
    let user = user.configured("[plugins.smol]\nenabled = false\n[plugins.moonshine]\nenabled = false\n[plugins.ear]\nenabled = false\n");
    let plugins = |args: &[&str]| {
        let listed = user.json(["plugin", "download-files", "--dry-run", "--json"].iter().chain(args));
        let mut ids: Vec<String> = listed.as_array().unwrap().iter().map(|row| row["plugin"].as_str().unwrap().to_owned()).collect();
        ids.dedup();
        ids
    };
    assert_eq!(plugins(&[]), [""; 0]);
    assert_eq!(plugins(&["--all"]), ["ear", "moonshine", "silero", "smol"]);
    assert_eq!(plugins(&["ear", "--plugin", "silero"]), ["ear", "silero"]);
    user.run(["plugin", "download-files", "ear"]).ok().says("1 file fetched");
    user.run(["plugin", "download-files", "--all", "ear"]).code(2).nothing();
    user.run(["plugin", "download-files", "--plugin", "eer"]).code(3).nothing().says("did you mean `ear`?");
    user.run(["models", "verify", "eer"]).code(3).nothing().says("did you mean `ear`?");
}

#[test]
fn files_are_deleted_by_plugin_by_name_and_when_nobody_needs_them() {
    let (user, server) = (user(), Server::new());
    for path in ["/a", "/b"] {
        server.serve(path, Answer::Bytes(b"12345".to_vec()));
    }
    let models = |id: &str| plugin(&user, id, &(server.model("a.bin", b"12345", "/a") + &server.model("b.bin", b"12345", "/b")));
    models("ear");
    let gone = models("gone");
    let broken = models("broken");
    user.run(["plugin", "download-files"]).ok().says("6 files fetched");
    fs::remove_dir_all(gone).unwrap();
    fs::write(broken.join("plugin.toml"), "id = ").unwrap();
    fs::write(kept(&user, "ear/old.bin"), "123").unwrap();
    fs::write(kept(&user, "loose.bin"), "1").unwrap();

    let unused: Vec<_> =
        states(&user.json(["models", "--json"])).into_iter().filter(|(_, state)| state == "unused").map(|(file, _)| file).collect();
    // Of a plugin whose manifest cannot be read nobody knows what it needs.
    assert_eq!(unused, ["ear/old.bin", "gone/a.bin", "gone/b.bin", "/loose.bin"]);
    verify(&user).ok().says("4 files that no plugin needs (14 B)").says("try: bespoke models remove --unused --dry-run");

    let before = files_below(&user.home().join("models")).len();
    let refused = user.run(["models", "remove", "--unused"]).code(4).nothing().says("nobody can be asked").says("--yes");
    assert!(refused.err.contains("gone/a.bin (5 B)"), "{}", refused.err);
    let dry = user.run(["models", "remove", "--unused", "--dry-run"]).ok().says("4 files would be deleted, 14 B freed");
    assert_eq!(dry.out, "ear/old.bin (3 B)\ngone/a.bin (5 B)\ngone/b.bin (5 B)\nloose.bin (1 B)\n");
    assert_eq!(files_below(&user.home().join("models")).len(), before);
    user.run(["models", "remove", "--unused", "--yes"]).ok().nothing().says("4 files deleted, 14 B freed");
    assert!(!kept(&user, "gone").exists() && kept(&user, "broken/a.bin").exists());

    user.run(["models", "remove", "a.bin", "--yes"]).code(2).nothing().says("`a.bin` may be broken/a.bin or ear/a.bin");
    for outside in ["../ear", "ear/../../bespoke.toml", "/etc/passwd", "", "."] {
        user.run(["models", "remove", outside, "--yes"]).code(3).nothing();
    }
    user.run(["models", "remove", "eer"]).code(3).nothing().says("did you mean `ear`?");
    user.run(["models", "remove"]).code(2).nothing();
    user.run(["models", "remove", "ear", "--all"]).code(2).nothing();
    let told = user.json(["models", "remove", "ear/a.bin", "--yes", "--json"]);
    assert_eq!((&told["bytes"], &told["removed"][0]["file"], kept(&user, "ear/a.bin").exists()), (&json!(5), &json!("a.bin"), false));
    user.run(["models", "remove", "ear/a.bin", "--yes"]).ok().says("nothing of ear/a.bin is in");
    user.run(["models", "remove", "ear", "--yes"]).ok().says("1 file deleted, 5 B freed");
    user.run(["models", "remove", "ear", "--yes"]).ok().says("nothing of ear is in");
    user.run(["models", "remove", "--all", "--yes"]).ok().says("2 files deleted, 10 B freed");
    user.run(["models", "remove", "--all"]).ok().says("there is nothing to delete");
    assert!(user.config().exists());
}

#[cfg(unix)]
#[test]
fn nothing_is_deleted_through_a_link() {
    let (user, server) = (user(), Server::new());
    plugin(&user, "ear", &(server.model("m.bin", b"right", "/m") + &server.model("deep/m.bin", b"right", "/m")));
    let theirs = user.work("theirs");
    fs::create_dir_all(theirs.join("deep")).unwrap();
    for file in ["m.bin", "deep/m.bin", "precious"] {
        fs::write(theirs.join(file), "right").unwrap();
    }
    let link = |target: &Path, at: &str| {
        fs::create_dir_all(kept(&user, at).parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, kept(&user, at)).unwrap();
    };
    // The folder of the plugin is elsewhere: its files are used, and none of them is deleted.
    link(&theirs, "ear");
    verify(&user).ok().says("2 files read");
    user.run(["models", "remove", "ear", "--yes"]).code(5).nothing().says("is a link").says("try: rm '");
    user.run(["models", "remove", "ear/m.bin", "--yes"]).ok().says("nothing of ear/m.bin is in");
    user.run(["models", "remove", "--unused", "--yes"]).ok().says("there is nothing to delete");
    assert_eq!(files_below(&theirs).len(), 3);
    // Of a link to a file or a folder, the link goes.
    fs::remove_file(kept(&user, "ear")).unwrap();
    link(&theirs.join("m.bin"), "ear/m.bin");
    link(&theirs.join("deep"), "ear/deep");
    link(&theirs, "elsewhere");
    verify(&user).ok().says("2 files read").says("1 file that no plugin needs");
    user.run(["models", "remove", "--all", "--yes"]).ok().says("3 files deleted, 0 B freed");
    assert!(
        files_below(&user.home().join("models"))
            .iter()
            .all(|path| path.components().any(|part| part.as_os_str() == ".verified" || part.as_os_str() == ".path"))
    );
    assert_eq!(files_below(&theirs).len(), 3);
}

#[test]
fn a_compiled_in_plugin_gets_its_file_from_a_folder_and_again_when_it_is_spoilt() {
    let source = User::with_models();
    let rows = source.json(["models", "--json"]);
    let model = rows.as_array().unwrap().iter().find(|row| row["plugin"] == "silero").unwrap().clone();
    let from = Path::new(model["path"].as_str().unwrap()).parent().unwrap().to_owned();
    let user = user();
    let fetch = || {
        let args = ["plugin", "download-files", "--plugin", "silero", "--offline", "--from"];
        user.run(args.iter().map(AsRef::as_ref).chain([from.as_os_str()]))
    };
    fetch().ok().nothing().says("silero: silero_vad.onnx 6.2.3 (2.3 MB, MIT) from").says("1 file fetched");
    let path = kept(&user, "silero/silero_vad.onnx");
    fs::File::options().write(true).open(&path).unwrap().set_len(2_000_000).unwrap();
    user.run(["models", "verify", "silero"]).code(6).says("download-files silero");
    fetch().ok().says("1 file fetched");
    user.run(["models", "verify", "silero"]).ok().says("1 file read");
    let shown = user.json(["plugin", "info", "silero", "--json"]);
    assert_eq!(shown["models"][0]["version"], "6.2.3");
}
