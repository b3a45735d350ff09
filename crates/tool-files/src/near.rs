//! What a name that does not exist may have meant: names that do, in the folder where it was missed. Only what `list_files` would
//! show there and the tools would take; nothing is opened for it but that folder.

use std::{cmp::Reverse, mem::discriminant};

use bespoke_plugin_api::CancelToken;

use crate::{
    list::names,
    name::RelPath,
    refusal::{Near, Refusal, Shown},
    root::{Kind, Root},
};

/// Most names that are told.
const MOST_NAMES: usize = 3;

/// Most bytes of a name that is compared: longer ones are seldom typed, and comparing takes the product of the lengths.
const NAME_BYTES: usize = 64;

/// Fewest letters and digits that make a beginning.
const BEGINNING: usize = 3;

/// Adds to a refusal because nothing has this name which names come close. Any other refusal stays what it is.
pub(crate) fn explain(root: &Root, path: &RelPath, refusal: Refusal, cancel: &CancelToken) -> Refusal {
    match refusal {
        Refusal::NotFound(shown) => match near(root, path, cancel) {
            Some(near) => Refusal::Misnamed(shown, near),
            None => Refusal::NotFound(shown),
        },
        other => other,
    }
}

fn near(root: &Root, path: &RelPath, cancel: &CancelToken) -> Option<Near> {
    let names_of_path = path.names();
    // Down to the folder in which the name is missing.
    let mut dir = root.folder(&[]).ok()?;
    let mut depth = 0;
    while let Ok(next) = root.step(&dir, names_of_path.get(depth)?, || Shown::new("")) {
        dir = next;
        depth += 1;
    }
    let missing = names_of_path.get(depth)?;
    let is_last = depth + 1 == names_of_path.len();
    let mut found: Vec<(Likeness, String)> = Vec::new();
    for entry in names(root, &dir, || Shown::new(""), cancel).ok()?.entries {
        let fits = matches!((entry.kind, is_last), (Kind::Folder, _) | (Kind::File, true));
        if let (true, Some(likeness)) = (fits && entry.askable, likeness(missing, &entry.name)) {
            found.push((likeness, entry.name));
        }
    }
    found.sort();
    // One that is spelled alike stands out from those that only begin alike.
    let first = found.first()?.0;
    let is_clear = first.is_same() && found.iter().filter(|(other, _)| discriminant(other) == discriminant(&first)).count() == 1;
    found.truncate(if is_clear { 1 } else { MOST_NAMES });
    let before = &names_of_path[..depth];
    let paths: Vec<String> = found.into_iter().map(|(_, name)| [before, &[name]].concat().join("/")).collect();
    Some(Near { paths, is_clear })
}

/// How close two names are, the closest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    /// The same but for case, `_`, `-`, dots and spaces.
    Written,
    /// And but for the extension.
    Stem,
    /// One stem begins with the other; with the letters and digits that they share.
    Beginning(Reverse<usize>),
    /// So many letters and digits differ.
    Letters(usize),
}

impl Likeness {
    /// Whether it may be taken for the same name in another spelling.
    fn is_same(self) -> bool {
        !matches!(self, Likeness::Letters(_))
    }
}

/// How close `name`, which exists, is to `wanted`; `None` where it is not.
fn likeness(wanted: &str, name: &str) -> Option<Likeness> {
    if wanted.len().max(name.len()) > NAME_BYTES {
        return None;
    }
    let (all_wanted, all) = (plain(wanted), plain(name));
    if all_wanted == all && !all.is_empty() {
        return Some(Likeness::Written);
    }
    let (stem_wanted, stem) = (plain(without_extension(wanted)), plain(without_extension(name)));
    let shorter = stem.chars().count().min(stem_wanted.chars().count());
    if stem == stem_wanted && shorter > 0 {
        return Some(Likeness::Stem);
    }
    if shorter >= BEGINNING && (stem.starts_with(&stem_wanted) || stem_wanted.starts_with(&stem)) {
        return Some(Likeness::Beginning(Reverse(shorter)));
    }
    // The stems, or an extension in common would make short names alike.
    let differ = strsim::damerau_levenshtein(&stem_wanted, &stem);
    (shorter >= BEGINNING && differ <= (shorter / 3).max(1)).then_some(Likeness::Letters(differ))
}

/// Letters and digits only, in lower case.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn without_extension(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_close_by_spelling_extension_beginning_and_letters() {
        for (wanted, name, expected) in [
            ("Todo.TXT", "todo.txt", Some(Likeness::Written)),
            ("shopping_list.txt", "Shopping List.txt", Some(Likeness::Written)),
            ("todo", "todo.txt", Some(Likeness::Stem)),
            ("todo.md", "todo.txt", Some(Likeness::Stem)),
            ("shopping_list.txt", "shopping.txt", Some(Likeness::Beginning(Reverse(8)))),
            ("shop", "shopping.txt", Some(Likeness::Beginning(Reverse(4)))),
            ("shoping.txt", "shopping.txt", Some(Likeness::Letters(1))),
            ("dairy.txt", "diary.txt", Some(Likeness::Letters(1))),
            ("ab.txt", "abc.txt", None),
            ("a.txt", "b.txt", None),
            ("todo.txt", "diary.txt", None),
            ("---", "___", None),
            ("x", &"x".repeat(65), None),
        ] {
            assert_eq!(likeness(wanted, name), expected, "{wanted} {name}");
        }
    }
}
