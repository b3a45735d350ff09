//! Pinned files out of packages, URLs and folders: verified, resumable, atomically placed.
