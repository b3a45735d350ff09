//! Finds files by name and by what is in them; all files where neither is given. Plain text and `*`, no regular expressions: models write those wrong.

use std::{fmt::Write as _, io::Read};

use bespoke_plugin_api::{
    CancelToken, ToolOutput,
    serde_json::{Value, json},
};
use cap_std::fs::Dir;

use crate::{
    list::{names, place},
    near,
    read::binary,
    refusal::{Refusal, Shown},
    root::{Kind, Root},
};

/// Most names that one search looks at.
const MOST_NAMES: usize = 50_000;

/// Most bytes of one file that are searched.
const FILE_BYTES: u64 = 1 << 20;

/// Most bytes that one search reads.
const ALL_BYTES: u64 = 256 << 20;

/// Most lines of one file that are shown.
const LINES_OF_A_FILE: usize = 5;

/// Most characters of a line that are shown.
const LINE_CHARACTERS: usize = 160;

/// What to look for; both must fit where both are given, and every file does where neither is.
pub(crate) struct Query {
    /// A part of the name, or a pattern with `*` and `?` for all of it. Case does not matter.
    pub(crate) name: Option<String>,
    /// A part of a line. Case does not matter.
    pub(crate) text: Option<String>,
}

/// Searches a folder and those below it.
pub(crate) fn find(root: &Root, path: &str, query: &Query, most: usize, cancel: &CancelToken) -> Result<ToolOutput, Refusal> {
    let wanted = |part: &Option<String>| part.as_ref().filter(|part| !part.is_empty()).map(|part| part.to_lowercase());
    let (name, text) = (wanted(&query.name), wanted(&query.text));
    let path = root.parse(path)?;
    let dir = root.folder(path.names()).map_err(|refusal| near::explain(root, &path, refusal, cancel))?;
    let mut search =
        Search { root, cancel, name, text, most, hits: Vec::new(), left_out: 0, looked_at: 0, read: 0, skipped: 0, cut: false };
    search.folder(&dir, &path.text(), path.names().len())?;
    Ok(search.answer(&path.text()))
}

struct Search<'a> {
    root: &'a Root,
    cancel: &'a CancelToken,
    name: Option<String>,
    text: Option<String>,
    most: usize,
    hits: Vec<Hit>,
    /// Hits beyond `most`.
    left_out: usize,
    looked_at: usize,
    read: u64,
    /// Files that could not be searched: too deep, refused, no text, too long.
    skipped: usize,
    /// Whether a limit ended the search.
    cut: bool,
}

struct Hit {
    path: String,
    folder: bool,
    lines: Vec<(usize, String)>,
    /// Lines beyond those.
    more_lines: usize,
}

impl Search<'_> {
    fn folder(&mut self, dir: &Dir, path: &str, depth: usize) -> Result<(), Refusal> {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        let names = names(self.root, dir, || Shown::new(path), self.cancel)?;
        self.cut |= names.more;
        for entry in names.entries {
            if self.cancel.is_cancelled() {
                return Err(Refusal::Cancelled);
            }
            self.looked_at += 1;
            if self.looked_at > MOST_NAMES || self.read > ALL_BYTES {
                self.cut = true;
                return Ok(());
            }
            if !entry.askable {
                self.skipped += 1;
                continue;
            }
            let at = below(&entry.name);
            let fits = self.name.as_ref().is_none_or(|wanted| is_named(&entry.name, wanted));
            match entry.kind {
                Kind::Folder => {
                    if fits && self.text.is_none() && self.name.is_some() {
                        self.hit(Hit { path: at.clone(), folder: true, lines: Vec::new(), more_lines: 0 });
                    }
                    if depth + 1 >= self.root.rules().depth {
                        self.skipped += 1;
                        continue;
                    }
                    match self.root.step(dir, &entry.name, || Shown::new(&at)) {
                        Ok(next) => self.folder(&next, &at, depth + 1)?,
                        Err(_) => self.skipped += 1,
                    }
                }
                Kind::File if fits => match self.text.clone() {
                    None => self.hit(Hit { path: at, folder: false, lines: Vec::new(), more_lines: 0 }),
                    Some(text) => self.file(dir, &entry.name, at, &text),
                },
                Kind::File => {}
                Kind::Link | Kind::Special(_) => self.skipped += 1,
            }
        }
        Ok(())
    }

    fn file(&mut self, dir: &Dir, name: &str, path: String, wanted: &str) {
        let mut bytes = Vec::new();
        let read = self.root.file(dir, name, || Shown::new(&path)).map_err(drop);
        let read = read.and_then(|(file, there)| file.take(FILE_BYTES).read_to_end(&mut bytes).map(|_| there.len()).map_err(drop));
        self.read += bytes.len() as u64;
        let Ok(size) = read else {
            self.skipped += 1;
            return;
        };
        if binary(&bytes[..bytes.len().min(1024)]).is_some() {
            self.skipped += 1;
            return;
        }
        if size > FILE_BYTES {
            self.skipped += 1;
        }
        let text = String::from_utf8_lossy(&bytes);
        let mut hit = Hit { path, folder: false, lines: Vec::new(), more_lines: 0 };
        for (index, line) in text.lines().enumerate().filter(|(_, line)| line.to_lowercase().contains(wanted)) {
            if hit.lines.len() < LINES_OF_A_FILE {
                hit.lines.push((index + 1, excerpt(line)));
            } else {
                hit.more_lines += 1;
            }
        }
        if !hit.lines.is_empty() {
            self.hit(hit);
        }
    }

    fn hit(&mut self, hit: Hit) {
        if self.hits.len() < self.most {
            self.hits.push(hit);
        } else {
            self.left_out += 1;
        }
    }

    /// Whether every file is a hit.
    fn is_of_all(&self) -> bool {
        self.name.is_none() && self.text.is_none()
    }

    fn answer(&self, path: &str) -> ToolOutput {
        let place = place(path);
        let mut text = match self.hits.len() + self.left_out {
            0 if self.is_of_all() => format!("no files in {place}"),
            1 if self.is_of_all() => format!("one file in {place}:"),
            n if self.is_of_all() => format!("{n} files in {place}:"),
            0 => format!("nothing found in {place}"),
            1 => format!("one found in {place}:"),
            n => format!("{n} found in {place}:"),
        };
        for hit in &self.hits {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n{}{}", hit.path, if hit.folder { "/" } else { "" });
            for (number, line) in &hit.lines {
                let _ = write!(text, "\n  line {number}: {line}");
            }
            if hit.more_lines > 0 {
                let _ = write!(text, "\n  [{} more lines]", hit.more_lines);
            }
        }
        if self.left_out > 0 {
            let _ = write!(text, "\n[{} more left out; name a folder in `path` or look for something rarer]", self.left_out);
        }
        if self.cut {
            let _ = write!(text, "\n[the search ended after {} names and {} bytes; name a folder in `path`]", self.looked_at, self.read);
        }
        if self.skipped > 0 {
            let _ =
                write!(text, "\n[{} not searched, or not to their end: links, no text, too long, too deep or off limits]", self.skipped);
        }
        let hits = self.hits.iter().map(hit_data).collect::<Vec<_>>();
        ToolOutput::text(text).with_data(json!({ "hits": hits, "left_out": self.left_out, "skipped": self.skipped, "cut": self.cut }))
    }
}

fn hit_data(hit: &Hit) -> Value {
    let lines = hit.lines.iter().map(|(number, line)| json!({ "line": number, "text": line })).collect::<Vec<_>>();
    json!({ "path": hit.path, "folder": hit.folder, "lines": lines, "more_lines": hit.more_lines })
}

fn excerpt(line: &str) -> String {
    let line = line.trim();
    match line.char_indices().nth(LINE_CHARACTERS) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line.to_owned(),
    }
}

/// Whether a name fits: `wanted` is lower case, and a pattern if it has `*` or `?`.
fn is_named(name: &str, wanted: &str) -> bool {
    let name = name.to_lowercase();
    if !wanted.contains(['*', '?']) {
        return name.contains(wanted);
    }
    let (name, pattern): (Vec<char>, Vec<char>) = (name.chars().collect(), wanted.chars().collect());
    // Goes back to the last star only: linear in the product of the lengths at worst, never more.
    let (mut n, mut p, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                n += 1;
                p += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::is_named;

    #[test]
    fn names_fit_parts_and_patterns() {
        for (name, wanted, fits) in [
            ("Shopping.md", "shop", true),
            ("Shopping.md", "*.md", true),
            ("Shopping.md", "s*g.?d", true),
            ("Shopping.md", "*.m", false),
            ("Shopping.md", "?", false),
            ("a", "?", true),
            ("aab", "*ab", true),
            ("", "*", true),
            ("aaaaaaaaaaaaaaaaaaaaaaaa", "*a*a*a*a*a*a*b", false),
        ] {
            assert_eq!(is_named(name, wanted), fits, "{name} {wanted}");
        }
    }
}
