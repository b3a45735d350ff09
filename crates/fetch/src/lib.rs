//! Pinned files out of packages, URLs and folders: verified, resumable, atomically placed.
//!
//! A [`Pin`] names one file by size and SHA-256 and lists where its bytes can come from. A [`Store`] knows where such
//! files lie; a [`Fetcher`] brings the missing ones. A [`Wheel`] is a pinned package archive of which some members are
//! unpacked into a folder of the caller's. The digest in the pin is the only thing that is trusted: a source
//! is asked for bytes, never for a fact about them, so a mirror, a proxy or a stranger's package cannot hand over
//! anything else. Package archives are data: nothing out of them is imported, built or run,
//! with one exception. On a machine without npm, a pin that lists an npm package may need Node.js itself: it is fetched
//! through pip as a wheel pinned by SHA-256 in this crate, run to pack npm packages (`npm pack --ignore-scripts`), and
//! removed at the end of the run. [`Tools`] switches that off.
//!
//! **Invariant:** a file at `<root>/<sub>/<file>` was complete and verified when it was renamed into place. Nothing is
//! ever written there in part.
//!
//! **Invariant:** this crate names no registry. Packages come from the [`Index`] that the user names, else through `pip`
//! and `npm`, with the user's own settings for index, proxy, certificates and credentials.
//!
//! What it does not do: it does not unpack whole archives, resolve dependencies, or know what the files are for.
//!
//! # Example
//!
//! ```no_run
//! use std::sync::atomic::AtomicBool;
//! use bespoke_fetch::{Fetcher, Pin, Source, Store};
//!
//! let pin = Pin {
//!     file: "silero_vad.onnx".into(),
//!     size: 2_327_524,
//!     sha256: "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3".parse()?,
//!     license: "MIT".into(),
//!     sources: vec![Source::pip("silero-vad==6.2.3", "silero_vad/data/silero_vad.onnx")],
//! };
//! let store = Store::new("models");
//! let fetcher = Fetcher::new(store);
//! let pins = [pin];
//!
//! let plan = fetcher.plan("silero", &pins)?;            // what a prompt shows before anything is downloaded
//! let cancel = AtomicBool::new(false);
//! let paths = fetcher.ensure("silero", &pins, &mut |p| { let _ = (p.done, p.total); }, &cancel)?;
//! # let _ = (plan, paths); Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A wheel, out of a file or folder that the user gave, else out of the index, else through pip:
//!
//! ```no_run
//! use std::{path::Path, sync::atomic::AtomicBool};
//! use bespoke_fetch::{Fetcher, Index, Member, Store, Wheel};
//!
//! let wheel = Wheel {
//!     project: "onnxruntime".into(),
//!     version: "1.28.0".into(),
//!     file: "onnxruntime-1.28.0-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl".into(),
//!     size: 19_214_257,
//!     sha256: "0a83bdb70d143cede762b677789bf2a7acca54b3fb82565601d5c30695aa933c".parse()?,
//!     members: vec![Member {
//!         name: "onnxruntime/capi/libonnxruntime.so.1.28.0".into(),
//!         to: "libonnxruntime.so".into(),
//!         size: 24_272_944,
//!     }],
//! };
//! let mut fetcher = Fetcher::new(Store::new("runtimes"));
//! fetcher.index = Index::choose(None, None)?;           // --index-url, plugins.index_url, then the environment
//! let staging = Path::new("runtimes/onnx/cpu/.new");
//! let unpacked = fetcher.unpack(&wheel, staging, &mut |_| {}, &AtomicBool::new(false))?;
//! assert_eq!(unpacked[0].to, "libonnxruntime.so");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The index
//!
//! One page is asked for, `<index>/<project>/`, in either format (PEP 503 HTML, PEP 691 JSON), and one file that it
//! links to. The page's digests only decide between several wheels that fit; what counts is the pin. Extra indexes are
//! never asked. A user name and password in the index URL are sent as Basic authentication to that scheme, host and
//! port only; for other hosts, `~/.netrc` or the file that `NETRC` names is read; a redirect takes nothing along, and
//! nothing goes over HTTP after HTTPS, neither after a redirect nor to what a page links to. No message, `Debug` text or file holds them. Proxies come from the environment
//! (`HTTPS_PROXY`, `NO_PROXY` …), certificates from the operating system (`SSL_CERT_FILE`).
//!
//! # A server in trouble
//!
//! | What happens | What is done |
//! |---|---|
//! | 408, 425, 429, 5xx; a connection that breaks off; a short body | tried again [`Limits::retries`] times with growing pauses (`Retry-After` up to 30 s), going on where it stopped; 1 MiB more starts the count anew |
//! | 401, 403, 404 and the like; a name that is not known; a refused connection | told at once |
//! | redirects | ten are followed |
//! | nothing arrives, or too slowly | ended by [`Limits::stall`] and [`Limits::total`] |
//! | another size, another digest, an error page in place of the file | refused; nothing of it is kept |
//!
//! # The folder
//!
//! | Path under the root | What it is |
//! |---|---|
//! | `<sub>/<file>` | a verified file |
//! | `.partial/<sub>/….part` | a download from a URL that can be resumed; gone once the file is in place |
//! | `.partial/.wheels/….part` | the same of a wheel out of the index |
//! | `.staging/` | archives of the run in progress; removed at its end, or by the next run if the process died |
//! | `.locks/` | empty files, locked with the operating system's file locks, which end with their process |
//! | `.verified/` | stamps that spare a second start the hashing (see [`Store`]) |

mod archive;
mod child;
mod client;
mod download;
mod error;
mod fetcher;
mod folder;
mod index;
mod name;
mod netrc;
mod node;
mod package;
mod page;
mod pin;
mod place;
mod plan;
mod progress;
mod sink;
mod stamp;
mod store;
mod wheel;

pub use error::{Attempt, Class, Error, Failure};
pub use fetcher::{Fetcher, Limits, Tools};
pub use index::Index;
pub use node::{SPEC as NODE, WHEELS as NODE_SHA256};
pub use pin::{Package, Pin, Sha256, Source};
pub use plan::{Needed, Plan};
pub use progress::{Phase, Progress};
pub use store::{Located, Rejected, Search, Store};
pub use wheel::{Member, Unpacked, Wheel};
