//! What keeps a plugin from being a component: dependencies that need an operating system, or a library of C. Those that are known by what
//! they are, before anything is compiled; the others by the compiler's failure.

use std::collections::{BTreeMap, VecDeque};

use cargo_metadata::{DependencyKind, Metadata, Node, Package, PackageId};

use crate::{error::BuildError, source::Source};

/// Crates that do not work in a component although some of them compile: which, with which of its features (any where none is named), why.
const NATIVE: &[(&str, &[&str], &str)] = &[
    ("tokio", &["net", "process", "signal", "rt-multi-thread", "fs"], "needs an operating system; use cx.sleep, cx.spawn and cx.http"),
    ("mio", &[], "is sockets of an operating system; use cx.http"),
    ("socket2", &[], "is sockets of an operating system; use cx.http"),
    ("async-std", &[], "needs an operating system; use cx.sleep, cx.spawn and cx.http"),
    ("reqwest", &[], "is an HTTP client of its own; use cx.http, which the user can grant"),
    ("ureq", &[], "is an HTTP client of its own; use cx.http, which the user can grant"),
    ("rayon-core", &[], "needs threads; use cx.blocking"),
    ("wasm-bindgen", &[], "is for browsers: the host has no JavaScript"),
    ("getrandom", &[], "has no source of random bytes there; use cx.host().random()"),
    ("notify", &[], "watches files of an operating system"),
    ("rustix", &[], "is calls of an operating system"),
    ("nix", &[], "is calls of an operating system"),
    ("libloading", &[], "opens dynamic libraries"),
    ("linkme", &[], "collects what a linker of an operating system keeps; use what plugin-api exports"),
];
/// Build dependencies that say that C or C++ is compiled, or a library looked for.
const OF_C: &[&str] = &["cc", "cmake", "pkg-config", "vcpkg", "bindgen", "autotools"];

/// Whether all that the plugin depends on can be in a component, as far as that shows without compiling it.
pub(crate) fn check(source: &Source, tree: &Metadata) -> Result<(), BuildError> {
    let Some(ways) = ways(source, tree) else { return Ok(()) };
    for package in &tree.packages {
        let Some(way) = ways.get(&package.id) else { continue };
        if let Some(why) = why_not(package, tree) {
            return Err(refused(source, package, way, why));
        }
    }
    Ok(())
}

/// What the failure of a compiler means: the dependency that it is about, and how it came in.
pub(crate) fn explain(source: &Source, tree: &Metadata, failure: BuildError) -> BuildError {
    let BuildError::Failed { package: name, said, .. } = &failure else { return failure };
    let Some(ways) = ways(source, tree) else { return failure };
    let of_plugin = |package: &&Package| package.name == name.as_str() && package.name != source.package.as_str();
    match tree.packages.iter().filter(of_plugin).find_map(|package| Some((package, ways.get(&package.id)?))) {
        Some((package, way)) => {
            let first = said.lines().find(|line| line.starts_with("error")).unwrap_or("error");
            refused(source, package, way, &format!("does not compile for wasm32: {first}"))
        }
        None => failure,
    }
}

fn refused(source: &Source, package: &Package, way: &[String], why: &str) -> BuildError {
    BuildError::NotPortable {
        plugin: source.manifest.id.clone(),
        folder: source.folder.clone(),
        dependency: format!("{} {}", package.name, package.version),
        why: why.to_owned(),
        way: way.to_vec(),
    }
}

fn why_not(package: &Package, tree: &Metadata) -> Option<&'static str> {
    let known = NATIVE.iter().find(|(name, features, _)| {
        *name == package.name.as_str()
            && (features.is_empty()
                || node(tree, &package.id).is_some_and(|node| features.iter().any(|f| node.features.iter().any(|own| own.as_ref() == *f))))
    });
    if let Some((_, _, why)) = known {
        return Some(why);
    }
    // `links` alone only says that there is to be one of it: plugin-api has it, too.
    let builds_c = package.dependencies.iter().any(|d| d.kind == DependencyKind::Build && OF_C.contains(&d.name.as_str()));
    (package.links.is_some() && (builds_c || package.name.ends_with("-sys"))).then_some("is a library of C")
}

fn node<'t>(tree: &'t Metadata, id: &PackageId) -> Option<&'t Node> {
    tree.resolve.as_ref()?.nodes.iter().find(|node| node.id == *id)
}

/// How each package comes into the plugin, by the shortest way: names from the plugin on. Only what is compiled into the component, and
/// nothing that plugin-api brings: that is our affair.
fn ways(source: &Source, tree: &Metadata) -> Option<BTreeMap<PackageId, Vec<String>>> {
    let resolve = tree.resolve.as_ref()?;
    let names: BTreeMap<&PackageId, &str> = tree.packages.iter().map(|p| (&p.id, p.name.as_str())).collect();
    let nodes: BTreeMap<&PackageId, &Node> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let start = tree
        .packages
        .iter()
        .find(|p| p.name == source.package.as_str() && p.manifest_path.as_std_path() == source.folder.join("Cargo.toml"))?;
    let mut ways = BTreeMap::from([(start.id.clone(), vec![source.package.clone()])]);
    let mut open = VecDeque::from([&start.id]);
    while let Some(id) = open.pop_front() {
        let Some(way) = ways.get(id).cloned() else { continue };
        for dep in nodes.get(id).iter().flat_map(|node| &node.deps) {
            let is_compiled = dep.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            let name = names.get(&dep.pkg).copied().unwrap_or_default();
            if !is_compiled || ways.contains_key(&dep.pkg) || name == "bespoke-plugin-api" || is_macro(tree, &dep.pkg) {
                continue;
            }
            ways.insert(dep.pkg.clone(), way.iter().cloned().chain([name.to_owned()]).collect());
            open.push_back(&dep.pkg);
        }
    }
    Some(ways)
}

/// A macro runs in the compiler, with all that it depends on.
fn is_macro(tree: &Metadata, id: &PackageId) -> bool {
    tree.packages.iter().find(|p| p.id == *id).is_some_and(|p| p.targets.iter().any(|target| target.is_proc_macro()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Request, cargo::Cargo, shim::Shim};
    use bespoke_manifest::Tier;
    use std::{fs, path::Path};

    /// Each of them says in its manifest that it is portable; what it depends on says the same.
    #[test]
    fn the_portable_plugins_of_the_project_are_portable() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut found = Vec::new();
        for entry in fs::read_dir(crates).unwrap() {
            let folder = entry.unwrap().path();
            if !folder.join("plugin.toml").is_file() {
                continue;
            }
            let cargo = Cargo::find(&folder).unwrap();
            let source = Source::read(&cargo, &folder).unwrap();
            if source.ships_as(Tier::Wasm).is_err() {
                continue;
            }
            let shim = Shim::write(&source, &Request::new(&folder, Tier::Wasm), &mut |_| {}).unwrap();
            let tree = cargo.tree(&shim.manifest()).unwrap();
            check(&source, &tree).unwrap_or_else(|e| panic!("{e}"));
            // The way there is known: nothing of it came from an empty tree.
            assert!(ways(&source, &tree).unwrap().len() > 1 || source.manifest.id == "fake");
            found.push(source.manifest.id);
        }
        found.sort();
        assert!(found.iter().any(|id| id == "clock"), "{found:?}");
    }
}
