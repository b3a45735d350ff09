//! Energy VAD: the labelled last resort.
