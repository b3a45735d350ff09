//! Terms of what others made and a crate puts into the program: models, voices, recordings. A crate's own licence is in its manifest,
//! and that of crates it depends on in theirs.

/// What somebody else made, with the terms under which it may be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// What it is called, unique within a program: `silero-vad`.
    pub name: &'static str,
    /// The files that it covers, without folders; what they are called where they come inside a crate of others.
    pub files: &'static [&'static str],
    /// SPDX expression, or `public domain`.
    pub license: &'static str,
    /// The notice, complete.
    pub text: &'static str,
    /// The crate that contains them.
    pub package: &'static str,
}

/// The slice that [`notice!`](crate::notice) fills. Its order changes with the linker: read it through [`notices`].
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[allow(unsafe_code, reason = "linkme places the elements in a link section")]
#[linkme::distributed_slice]
pub static BESPOKE_NOTICES_V1: [Option<&'static Notice>];

/// Keeps the slice from being empty, which crashes one linker.
#[cfg(not(target_family = "wasm"))]
#[allow(unsafe_code, reason = "linkme places the element in a link section")]
#[linkme::distributed_slice(BESPOKE_NOTICES_V1)]
static SENTINEL: Option<&'static Notice> = None;

/// The notices of this binary, sorted by name.
#[cfg(not(target_family = "wasm"))]
pub fn notices() -> Vec<&'static Notice> {
    let mut all: Vec<_> = BESPOKE_NOTICES_V1.iter().copied().flatten().collect();
    all.sort_by_key(|notice| (notice.name, notice.package));
    all
}

/// Says under which terms bundled files of others may be passed on. It stands in the source file that includes them, under the same
/// `cfg`, so that a program has the notices of what it contains and no others.
///
/// ```
/// bespoke_plugin_api::notice! {
///     name: "chime",
///     files: ["chime.wav"],
///     license: "CC0-1.0",
///     text: "Recorded by the example authors, who waive all rights.",
/// }
/// // static CHIME: &[u8] = include_bytes!("../chime.wav");
///
/// let chime = bespoke_plugin_api::notices().into_iter().find(|notice| notice.name == "chime").unwrap();
/// assert_eq!(chime.files, ["chime.wav"]);
/// ```
#[macro_export]
macro_rules! notice {
    (name: $name:literal, files: [$($file:literal),* $(,)?], license: $license:literal, text: $text:expr $(,)?) => {
        $crate::__notice!($crate::Notice {
            name: $name,
            files: &[$($file),*],
            license: $license,
            text: $text,
            package: env!("CARGO_PKG_NAME"),
        });
    };
}

/// The slice entry: see `__link!`.
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __notice {
    ($notice:expr) => {
        #[allow(unsafe_code, reason = "linkme places the element in a link section")]
        const _: () = {
            static NOTICE: $crate::Notice = $notice;
            #[$crate::linkme::distributed_slice($crate::BESPOKE_NOTICES_V1)]
            #[linkme(crate = $crate::linkme)]
            static ENTRY: ::core::option::Option<&'static $crate::Notice> = ::core::option::Option::Some(&NOTICE);
        };
    };
}

/// What a wasm guest bundles comes with notices beside it.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
#[macro_export]
macro_rules! __notice {
    ($notice:expr) => {};
}
