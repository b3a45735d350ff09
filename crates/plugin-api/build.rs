//! Empty on purpose: `links` in Cargo.toml needs a build script to exist.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
