//! How a plugin ships: `[process]`, `[dylib]` and `[wasm]`. What is run, and never whether it is there.

use super::is_variable;
use crate::{Component, Library, Process, Run, Tier, name::shown, reader::Node};

pub(super) fn process(node: Node<'_, '_>, tiers: &[Tier]) -> Option<Process> {
    if !tiers.contains(&Tier::Process) {
        node.refuse("the plugin does not ship as a process", "add \"process\" to tiers, or remove the table");
    }
    let mut fields = node.fields()?;
    let (command, module) = (fields.take("command"), fields.take("python"));
    let requirements: Vec<String> =
        fields.strings("requirements").into_iter().filter_map(|(text, node)| requirement(text, &node)).collect();
    let run = match (command, module) {
        (Some(node), None) => {
            if !requirements.is_empty() {
                fields.refuse("requirements", "packages of Python are for a module of Python", "write python = \"…\" instead of command");
            }
            self::command(node).map(Run::Command)
        }
        (None, Some(node)) => module_of_python(&node).map(Run::Python),
        (Some(_), Some(_)) => {
            fields.refuse("", "there are both command and python", "keep one of them");
            None
        }
        (None, None) => {
            fields.refuse("command", "it is missing", "write command = [\"./run\"], or python = \"module\"");
            None
        }
    };
    fields.finish();
    Some(Process { run: run?, requirements })
}

pub(super) fn library(node: Node<'_, '_>, tiers: &[Tier]) -> Option<Library> {
    if !tiers.contains(&Tier::Dylib) {
        node.refuse("the plugin does not ship as a dynamic library", "add \"dylib\" to tiers, or remove the table");
    }
    let mut fields = node.fields()?;
    let file = fields.need("file", "write file = \"plugin.so\"").and_then(|node| file_in_folder(&node));
    fields.finish();
    Some(Library { file: file? })
}

pub(super) fn component(node: Node<'_, '_>, tiers: &[Tier]) -> Option<Component> {
    if !tiers.contains(&Tier::Wasm) {
        node.refuse("the plugin does not ship as a wasm component", "add \"wasm\" to tiers, or remove the table");
    }
    let mut fields = node.fields()?;
    let file = fields.need("file", "write file = \"plugin.wasm\"").and_then(|node| file_in_folder(&node));
    let wasi = fields.take("wasi").and_then(|node| node.boolean()).unwrap_or_default();
    fields.finish();
    Some(Component { file: file?, wasi })
}

/// A file in the plugin's folder, or below it.
fn file_in_folder(node: &Node<'_, '_>) -> Option<String> {
    let file = node.string()?;
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':', '\0']);
    if !file.split('/').all(part) {
        let fix = "write where it lies in the plugin's folder, with / between folders";
        node.refuse(format!("`{}` is no file in the plugin's folder", shown(&file)), fix);
        return None;
    }
    Some(file)
}

fn command(node: Node<'_, '_>) -> Option<Vec<String>> {
    let (report, at, path) = (node.report(), node.at, node.path.clone());
    let words: Vec<String> = node.items()?.iter().filter_map(Node::string).collect();
    let good = words.first().is_some_and(|program| {
        let placed = program.starts_with("./") || program.starts_with('/') || !program.contains(['/', '\\']);
        placed && !program.is_empty() && !program.starts_with('-') && !program.split('/').any(|part| part == "..")
    });
    if !good || words.iter().any(|word| word.contains('\0')) {
        let fix = "write [\"./run\", \"--flag\"]: a program in the plugin's folder, by its absolute path, or by a name that is looked for";
        report.add(at, &path, "it names no program", fix);
        return None;
    }
    Some(words)
}

/// A dotted name: the interpreter gets it as an argument.
pub(crate) fn module_of_python(node: &Node<'_, '_>) -> Option<String> {
    let module = node.string()?;
    let word = |w: &str| w.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && is_variable(w);
    if module.len() > 256 || !module.split('.').all(word) {
        let fix = "write the name of the file without .py, with dots between folders, such as main";
        node.refuse(format!("`{}` is no module of Python", shown(&module)), fix);
        return None;
    }
    Some(module)
}

/// One line of a requirements.txt that names a package. It reaches a command line: no option, no address, no folder passes.
pub(crate) fn requirement(text: String, node: &Node<'_, '_>) -> Option<String> {
    if !is_requirement(&text) {
        node.refuse(format!("`{}` is no package", shown(&text)), "write its name and the versions that fit, such as numpy>=1.24");
        return None;
    }
    Some(text)
}

/// Whether a text can only be the name of a package of Python and the versions that fit: no option, no path and no address, so that it
/// leads pip nowhere but to the index of its user.
pub fn is_requirement(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || " .,_-[]()<>=!~*+;'\"".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.len() <= 256 && text.chars().all(fits)
}
