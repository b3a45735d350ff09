//! A server over a real host and a real file, with channels whose other end is a list that the test reads.

mod channels;
mod crash;
mod drain;
mod kit;
mod letters;
mod load;
mod shown;
mod talks;
