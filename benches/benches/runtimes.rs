//! Installing a runtime, against a plain download of the same bytes from the same server: what checking, unpacking and making it durable
//! costs.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Cursor, Seek as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use bespoke_benches::{Counting, Group};
use bespoke_fetch::{Index, Sha256};
use bespoke_runtimes::{Features, Outcome, Packs, Platform, Spec, Table};
use sha2::Digest as _;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// As large as the library of ONNX Runtime.
const LIBRARY: usize = 24_000_000;
const FILE: &str = "library-1.0-py3-none-manylinux_2_28_x86_64.whl";
const MEMBER: &str = "library/lib.so";

fn main() {
    let wheel = wheel();
    let table = table(&wheel);
    let server = serve(wheel.clone());
    let folder = tempfile::tempdir().expect("a folder");
    let download = |to: &Path| {
        get(server, &format!("files/{FILE}"), to).expect("a download");
        to.to_owned()
    };
    Group::new(format!("install a pack of {:.0} MB, {:.0} MB unpacked", wheel.len() as f64 / 1e6, LIBRARY as f64 / 1e6))
        .turns(20, Duration::from_millis(1))
        .timed("GET into a file", |n| {
            each(n, |at| {
                download(&folder.path().join(format!("get-{at}")));
            })
        })
        .timed("GET, SHA-256, unzip, SHA-256, fsync", |n| {
            each(n, |at| {
                let to = folder.path().join(format!("bare-{at}"));
                bare(&download(&to), &to.with_extension("so")).expect("it is there");
            })
        })
        .timed("Packs::install", |n| {
            each(n, |_| {
                // The folder goes after the clock has stopped.
                let root = folder.path().join("packs");
                let mut packs = Packs::new(&root).with_table(table.clone());
                packs.features = Features::ALL;
                packs.platform = Some(Platform::LinuxX86_64);
                packs.fetcher.index = Some(Index::new(&format!("http://{server}/simple/")).expect("an index"));
                let done = packs.install(Spec::OnnxCpu, None, &mut |_| {}, &AtomicBool::new(false)).expect("it installs");
                assert_eq!(done.outcome, Outcome::Installed);
                Some(root)
            })
        })
        .run();
}

/// The time of so many calls; what each leaves is removed between them.
fn each<L: Leaves>(n: u64, mut work: impl FnMut(u64) -> L) -> Duration {
    let one = |at| {
        let begun = Instant::now();
        let left = work(at);
        let took = begun.elapsed();
        left.remove();
        took
    };
    (0..n).map(one).sum()
}

trait Leaves {
    fn remove(self);
}

impl Leaves for () {
    fn remove(self) {}
}

impl Leaves for Option<std::path::PathBuf> {
    fn remove(self) {
        self.into_iter().for_each(|folder| fs::remove_dir_all(folder).expect("it was there"));
    }
}

/// What has to be done at the least.
fn bare(wheel: &Path, to: &Path) -> io::Result<()> {
    let mut file = File::open(wheel)?;
    hashed(&mut file, &mut io::sink())?;
    file.rewind()?;
    let mut archive = zip::ZipArchive::new(file)?;
    let mut out = File::create(to)?;
    hashed(&mut archive.by_name(MEMBER)?, &mut out)?;
    out.sync_all()
}

fn hashed(from: &mut dyn io::Read, to: &mut dyn io::Write) -> io::Result<Sha256> {
    let (mut hash, mut buffer) = (sha2::Sha256::new(), vec![0; 1 << 18]);
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(Sha256(hash.finalize().into()));
        }
        hash.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
    }
}

/// Compresses about as well as a library does: most of it not at all, the rest away.
fn wheel() -> Arc<Vec<u8>> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let library: Vec<u8> = (0..LIBRARY).map(|at| if at % 4096 < 2800 { next() } else { 0 }).collect();
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let method = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    archive.start_file(MEMBER, method).expect("a member");
    archive.write_all(&library).expect("a member");
    Arc::new(archive.finish().expect("an archive").into_inner())
}

fn table(wheel: &[u8]) -> Table {
    let sha256 = Sha256(sha2::Sha256::digest(wheel).into());
    let text = format!(
        "[[packs]]\nspec = \"onnx:cpu\"\nversion = \"1.0\"\nplatform = \"linux-x86_64\"\nlibrary = \"lib/lib.so\"\nwheels = [\"{FILE}\"]\n\
         [[wheels]]\nproject = \"library\"\nversion = \"1.0\"\nfile = \"{FILE}\"\nsize = {}\nsha256 = \"{sha256}\"\nlicense = \"MIT\"\n\
         redistribute = true\nmembers = [{{ name = \"{MEMBER}\", to = \"lib/lib.so\", size = {LIBRARY} }}]\n",
        wheel.len()
    );
    Table::parse(&text).expect("a table")
}

/// An index with one wheel.
fn serve(wheel: Arc<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let wheel = Arc::clone(&wheel);
            thread::spawn(move || _ = answer(stream, &wheel));
        }
    });
    address
}

fn answer(mut stream: TcpStream, wheel: &[u8]) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let page = format!("<a href=\"../../files/{FILE}\">{FILE}</a>");
    let body = if first.contains("/simple/") { page.as_bytes() } else { wheel };
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(body)
}

fn get(server: SocketAddr, path: &str, to: &Path) -> io::Result<()> {
    let mut stream = TcpStream::connect(server)?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")?;
    let mut answer = BufReader::with_capacity(1 << 16, stream);
    let mut line = String::new();
    while answer.read_line(&mut line)? > 2 {
        line.clear();
    }
    io::copy(&mut answer, &mut File::create(to)?).map(drop)
}
