//! A binary without the feature `demo` holds no recordings.

/// See the feature `demo`.
pub(crate) struct Recording {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) wav: &'static [u8],
}

pub(crate) const RECORDINGS: &[Recording] = &[];
