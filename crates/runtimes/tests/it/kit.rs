//! What every test works on: made-up wheels with a table of them, and a root of its own.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::Duration,
};

use bespoke_fetch::{Index as Address, Sha256};
use bespoke_runtimes::{Error, Features, Installed, Packs, Platform, Set, Spec, Table};

use crate::index::Index;

/// A wheel and what is wanted of it.
pub(crate) struct Wheel {
    pub(crate) project: String,
    pub(crate) version: String,
    pub(crate) file: String,
    pub(crate) bytes: Vec<u8>,
    members: Vec<(String, String, usize)>,
}

/// Wheels and the text of a table.
pub(crate) struct Kit {
    pub(crate) wheels: Vec<Wheel>,
    pub(crate) table: String,
}

/// 60 kB that do not compress, different for each name.
pub(crate) fn content(name: &str) -> Vec<u8> {
    let mut state = name.bytes().fold(1_u32, |state, byte| state.wrapping_mul(31).wrapping_add(byte.into()));
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..60_000).map(|_| next()).collect()
}

impl Wheel {
    /// Members by their name in the wheel and their place.
    fn new(project: &str, version: &str, members: &[(&str, &str)]) -> Self {
        Self::of(project, version, members.iter().map(|(name, to)| (*name, *to, content(&format!("{project} {version} {name}")))).collect())
    }

    pub(crate) fn of(project: &str, version: &str, members: Vec<(&str, &str, Vec<u8>)>) -> Self {
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let method = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        for (name, _, content) in &members {
            archive.start_file(*name, method).unwrap();
            archive.write_all(content).unwrap();
        }
        archive.start_file("not/wanted.py", method).unwrap();
        archive.write_all(b"import this\n").unwrap();
        let file = format!("{}-{version}-py3-none-manylinux_2_17_x86_64.whl", project.replace('-', "_"));
        let members = members.into_iter().map(|(name, to, content)| (name.to_owned(), to.to_owned(), content.len())).collect();
        Wheel { project: project.to_owned(), version: version.to_owned(), file, bytes: archive.finish().unwrap().into_inner(), members }
    }

    fn entry(&self) -> String {
        let Wheel { project, version, file, bytes, members } = self;
        let members: String =
            members.iter().map(|(name, to, size)| format!("  {{ name = {name:?}, to = {to:?}, size = {size} }},\n")).collect();
        let (size, sha256) = (bytes.len(), sha256(bytes));
        let nvidia = project.starts_with("nvidia");
        let license = if nvidia { "LicenseRef-NVIDIA" } else { "MIT" };
        format!(
            "[[wheels]]\nproject = {project:?}\nversion = {version:?}\nfile = {file:?}\nsize = {size}\nsha256 = \"{sha256}\"\n\
             license = {license:?}\nredistribute = {}\nmembers = [\n{members}]\n\n",
            !nvidia
        )
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> Sha256 {
    use sha2::Digest as _;
    Sha256(sha2::Sha256::digest(bytes).into())
}

impl Kit {
    /// `onnx:cpu`, `onnx:cuda` in two sets, `xla:cuda`, which shares a wheel with it, and `cuda:nvrtc`, which has only shared ones.
    pub(crate) fn new() -> Self {
        Self::of("1.0.0")
    }

    /// With another version of ONNX Runtime.
    pub(crate) fn of(onnx: &str) -> Self {
        let nvidia = |project: &str, version: &str, cuda: &str, library: &str| {
            let license = format!("{}-{version}.dist-info/licenses/License.txt", project.replace('-', "_"));
            Wheel::new(
                project,
                version,
                &[
                    (&format!("nvidia/{cuda}/lib/{library}"), &format!("{cuda}/lib/{library}")),
                    (&format!("nvidia/{cuda}/bin/{project}"), &format!("{cuda}/bin/{project}")),
                    (&license, &format!("licenses/{project}/License.txt")),
                ],
            )
        };
        let wheels = vec![
            Wheel::new("ort", onnx, &[("ort/capi/libort.so", "lib/libort.so"), ("ort/LICENSE", "licenses/LICENSE")]),
            Wheel::new("ort-gpu", onnx, &[("ort/capi/libort.so", "lib/libort.so"), ("ort/LICENSE", "licenses/LICENSE")]),
            Wheel::new("ort-gpu-old", "0.9", &[("ort/capi/libort.so", "lib/libort.so")]),
            Wheel::new("pjrt-cuda", "2.0", &[("pjrt/plugin.so", "lib/xla_cuda13/plugin.so")]),
            nvidia("nvidia-blas", "13.1", "cu13", "libblas.so.13"),
            nvidia("nvidia-rtc", "13.2", "cu13", "librtc.so.13"),
            nvidia("nvidia-dnn", "9.0", "dnn", "libdnn.so.9"),
            nvidia("nvidia-blas-old", "12.1", "blas", "libblas.so.12"),
        ];
        let pack = |spec: &str, version: &str, library: &str, rest: &str| {
            format!("[[packs]]\nspec = {spec:?}\nversion = {version:?}\nplatform = \"linux-x86_64\"\nlibrary = {library:?}\n{rest}\n")
        };
        let file = |project: &str| wheels.iter().find(|wheel| wheel.project == project).unwrap().file.as_str();
        let mut table = pack("onnx:cpu", onnx, "lib/libort.so", &format!("wheels = [{:?}]\n", file("ort")));
        table += &pack(
            "onnx:cuda",
            &format!("{onnx}+cu13"),
            "lib/libort.so",
            &format!(
                "set = \"cu13\"\nwheels = [{:?}]\nshared = [{:?}, {:?}]\npreload = [\"nvidia/cu13/lib/libblas.so.13\", \"nvidia/dnn/lib/libdnn.so.9\"]\n",
                file("ort-gpu"),
                file("nvidia-blas"),
                file("nvidia-dnn")
            ),
        );
        table += &pack(
            "onnx:cuda",
            "0.9+cu12",
            "lib/libort.so",
            &format!("set = \"cu12\"\nwheels = [{:?}]\nshared = [{:?}]\n", file("ort-gpu-old"), file("nvidia-blas-old")),
        );
        table += &pack(
            "xla:cuda",
            "2.0+cu13",
            "lib/xla_cuda13/plugin.so",
            &format!(
                "set = \"cu13\"\nwheels = [{:?}]\nshared = [{:?}, {:?}]\npreload = [\"nvidia/cu13/lib/libblas.so.13\"]\n",
                file("pjrt-cuda"),
                file("nvidia-blas"),
                file("nvidia-rtc")
            ),
        );
        table += &pack(
            "cuda:nvrtc",
            "13.2+cu13",
            "nvidia/cu13/lib/librtc.so.13",
            &format!("set = \"cu13\"\nshared = [{:?}]\n", file("nvidia-rtc")),
        );
        table.extend(wheels.iter().map(Wheel::entry));
        Kit { wheels, table }
    }

    /// One wheel and `onnx:cpu` out of it.
    pub(crate) fn single(wheel: Wheel) -> Self {
        let (file, library) = (&wheel.file, &wheel.members[0].1);
        let table = format!(
            "[[packs]]\nspec = \"onnx:cpu\"\nversion = {:?}\nplatform = \"linux-x86_64\"\nlibrary = {library:?}\nwheels = [{file:?}]\n\n{}",
            wheel.version,
            wheel.entry()
        );
        Kit { wheels: vec![wheel], table }
    }

    pub(crate) fn file(&self, project: &str) -> &str {
        &self.wheels.iter().find(|wheel| wheel.project == project).unwrap().file
    }

    /// Its wheels in a folder.
    pub(crate) fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        for wheel in &self.wheels {
            fs::write(folder.join(&wheel.file), &wheel.bytes).unwrap();
        }
    }
}

/// A root and folders beside it, gone at the end.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("runtimes")
    }

    /// Packs of a kit. Short limits, so that what does not stop shows as a failed test within seconds.
    pub(crate) fn packs(&self, kit: &Kit, index: Option<&Index>) -> Packs {
        packs(&self.root(), &kit.table, index.map(Index::url).as_deref())
    }

    /// Every file below the root that stays: not the locks.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(&self.root(), &self.root(), &mut found);
        found.retain(|name| !name.starts_with(".locks/") && name != ".staging/.lock");
        found.sort();
        found
    }

    /// Nothing below the root, but what one can see.
    pub(crate) fn hidden(&self) -> Vec<String> {
        self.files().into_iter().filter(|name| name.starts_with('.')).collect()
    }
}

pub(crate) fn packs(root: &Path, table: &str, index: Option<&str>) -> Packs {
    let mut packs = Packs::new(root).with_table(Table::parse(table).unwrap());
    packs.platform = Some(Platform::LinuxX86_64);
    packs.features = Features::ALL;
    packs.fetcher.index = index.map(|url| Address::new(url).unwrap());
    // No test reaches a machine beyond this one.
    packs.fetcher.offline = index.is_none();
    packs.fetcher.tools.pip = vec![vec!["pip-that-is-not-there".into()]];
    let second = Duration::from_secs(1);
    packs.fetcher.limits.connect = 2 * second;
    packs.fetcher.limits.stall = 5 * second;
    packs.fetcher.limits.total = 20 * second;
    packs.fetcher.limits.lock_wait = 20 * second;
    packs
}

/// Nobody watches, nobody cancels.
pub(crate) fn install(packs: &Packs, spec: Spec, set: Option<Set>) -> Result<Installed, Error> {
    packs.install(spec, set, &mut |_| {}, &AtomicBool::new(false))
}

fn list(root: &Path, folder: &Path, into: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() && !path.is_symlink() {
            list(root, &path, into);
        } else {
            into.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}
