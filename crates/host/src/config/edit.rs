//! Changes of single keys. Comments, order, blank lines and line ends stay as they are.

use toml_edit::{Document, DocumentMut, Item, TableLike};

use super::{Config, ConfigError, read::typed};

impl Config {
    /// The text with one key set. Comments and order stay; `value` is TOML, or a bare word that is taken as a string.
    ///
    /// # Errors
    /// When the key is empty or stands below something that is no table.
    pub fn set(&self, key: &str, value: &str) -> Result<String, ConfigError> {
        let mut document = self.document()?;
        let (above, last) = self.parts(key)?;
        if let Some(text) = self.appended(&document, &above, last, value) {
            return Ok(text);
        }
        // A file of nothing but comments: they stand before what comes now.
        let comments = document.as_table().is_empty().then(|| document.trailing().as_str().unwrap_or_default().to_owned());
        if comments.is_some() {
            document.set_trailing("");
        }
        // The comments that head the file are the first header's to the parser; a key before it would push them down.
        let head = if above.is_empty() { take_head(&mut document) } else { String::new() };
        let mut table: &mut dyn TableLike = document.as_table_mut();
        for (depth, part) in above.iter().enumerate() {
            let implicit = || {
                let mut new = toml_edit::Table::new();
                new.set_implicit(true);
                Item::Table(new)
            };
            table = table
                .entry(part)
                .or_insert_with(implicit)
                .as_table_like_mut()
                .ok_or_else(|| self.problem(&above[..=depth].join("."), format!("is no table, so `{key}` cannot be set"), None))?;
        }
        let value = typed(value);
        if !value.is_inline_table() && table.get(last).is_some_and(|item| item.is_table_like() || item.is_array_of_tables()) {
            return Err(self.problem(key, "is a table", Some(format!("set one of its keys, such as {key}.NAME"))).into());
        }
        match table.get_mut(last).and_then(Item::as_value_mut) {
            // The old value's decoration holds the comment on its line.
            Some(old) => {
                let decor = old.decor().clone();
                *old = value;
                *old.decor_mut() = decor;
            }
            None => _ = table.insert(last, Item::Value(value)),
        }
        Ok(as_written(&self.text, &format!("{head}{}{document}", comments.unwrap_or_default())))
    }

    /// The text with a new table at its end. The editor of documents would put it behind its neighbour, between a table and the comments
    /// below it.
    fn appended(&self, document: &DocumentMut, above: &[&str], last: &str, value: &str) -> Option<String> {
        if above.is_empty() || document.as_table().is_empty() {
            return None;
        }
        let mut table: &dyn TableLike = document.as_table();
        for part in above {
            match table.get(part) {
                None => {
                    let header: Vec<_> = above.iter().map(|part| toml_edit::Key::new(*part).to_string()).collect();
                    let key = toml_edit::Key::new(last);
                    let text = format!("{}\n\n[{}]\n{key} = {}\n", self.text.trim_end(), header.join("."), typed(value).to_string().trim());
                    // Where a table above is written in one line, there can be no such header.
                    return Document::parse(text.as_str()).is_ok().then(|| as_written(&self.text, &text));
                }
                Some(item) => table = item.as_table_like()?,
            }
        }
        None
    }

    /// The text without one key and the comment on its line. Comments above it stay, and so does the header of a table that held
    /// nothing else.
    ///
    /// # Errors
    /// When the file does not set the key, or it is a section as a whole.
    pub fn unset(&self, key: &str) -> Result<String, ConfigError> {
        let mut document = self.document()?;
        let (above, last) = self.parts(key)?;
        let absent = || {
            let fix = match self.origin(key) {
                super::Origin::Environment(name) => Some(format!("unset {name}")),
                _ => None,
            };
            ConfigError::from(self.problem(key, "is not set in the file", fix))
        };
        let mut table: &mut dyn TableLike = document.as_table_mut();
        for part in above {
            table = table.get_mut(part).and_then(Item::as_table_like_mut).ok_or_else(absent)?;
        }
        match table.get(last) {
            None => return Err(absent()),
            Some(item) if item.is_table() || item.is_array_of_tables() => {
                let fix = format!("unset one of its keys, such as {key}.NAME, or remove the table by hand");
                return Err(self.problem(key, "is a table", Some(fix)).into());
            }
            Some(_) => {}
        }
        let above = table.key(last).and_then(|key| key.leaf_decor().prefix()).and_then(|p| p.as_str()).unwrap_or_default().to_owned();
        table.remove(last);
        if above.trim().is_empty() {
            return Ok(as_written(&self.text, &document.to_string()));
        }
        Ok(self.without_lines(key).unwrap_or_else(|| as_written(&self.text, &document.to_string())))
    }

    /// The text without the header of a table that holds nothing, neither keys nor tables; as it is where the header is written another
    /// way or says something beside it. Comments stay.
    ///
    /// # Errors
    /// When the file is no TOML.
    pub fn without_empty_table(&self, key: &str) -> Result<String, ConfigError> {
        let (above, last) = self.parts(key)?;
        let document = self.document()?;
        let mut item = Some(document.as_item());
        for part in above.iter().chain([&last]) {
            item = item.and_then(Item::as_table_like).and_then(|table| table.get(part));
        }
        let is_empty = item.and_then(Item::as_table).is_some_and(toml_edit::Table::is_empty);
        let header = format!("[{key}]");
        let lines: Vec<&str> = self.text.split_inclusive('\n').collect();
        let Some(at) = lines.iter().position(|line| is_empty && line.trim() == header) else { return Ok(self.text.clone()) };
        // The blank line that parted it from what stands above goes with it.
        let from = if at > 0 && lines[at - 1].trim().is_empty() { at - 1 } else { at };
        Ok([&lines[..from], &lines[at + 1..]].concat().concat())
    }

    /// The text without the lines of a key, so that the comments above it stay: the editor of documents takes them for the key's.
    fn without_lines(&self, key: &str) -> Option<String> {
        let document = Document::parse(self.text.as_str()).ok()?;
        let (above, last) = self.parts(key).ok()?;
        let mut table: &dyn TableLike = document.as_table();
        for part in above {
            table = table.get(part)?.as_table_like()?;
        }
        let (from, to) = (table.key(last)?.span()?.start, table.get(last)?.span()?.end);
        let begin = self.text[..from].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[to..].find('\n').map_or(self.text.len(), |at| to + at + 1);
        // Nothing but the key may stand on its lines, as in an inline table.
        let alone = self.text[begin..from].chars().all(|c| c.is_whitespace() || c == '.' || c.is_alphanumeric() || c == '_' || c == '-');
        let tail = self.text[to..end].trim();
        (alone && (tail.is_empty() || tail.starts_with('#'))).then(|| format!("{}{}", &self.text[..begin], &self.text[end..]))
    }

    /// The text with the version of its layout, where it says none: below the comments that head the file.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn with_version(&self, version: u64) -> Result<String, ConfigError> {
        if self.written.root.contains_key("config_version") {
            Ok(self.text.clone())
        } else {
            self.set("config_version", &version.to_string())
        }
    }

    /// This configuration with one key set, in memory only, above file and environment.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn with(&self, key: &str, value: &str) -> Result<Self, ConfigError> {
        let text = self.set(key, value)?;
        let mut new = self.clone();
        new.written = super::read::read(&self.origin, &text)?;
        new.text = text;
        // The variable of this key would win over it.
        new.env.retain(|name, _| super::overrides::variable_of(key).as_ref() != Some(name));
        Ok(new.fresh())
    }

    pub(super) fn document(&self) -> Result<DocumentMut, ConfigError> {
        Ok(self.text.parse().map_err(|e: toml_edit::TomlError| self.problem("", format!("is no TOML: {}", e.message()), None))?)
    }

    fn parts<'k>(&self, key: &'k str) -> Result<(Vec<&'k str>, &'k str), ConfigError> {
        let mut parts: Vec<&str> = key.split('.').collect();
        match parts.pop() {
            Some(last) if !last.is_empty() && parts.iter().all(|part| !part.is_empty()) => Ok((parts, last)),
            _ => Err(self.problem(key, "is no key", Some("write it as section.key or plugins.id.key".into())).into()),
        }
    }
}

/// A text with the line ends and the byte order mark of the old one: the editor of documents drops both.
pub(super) fn as_written(old: &str, new: &str) -> String {
    let lines = old.matches('\n').count();
    let windows = lines > 0 && old.matches("\r\n").count() == lines;
    let text = new.replace("\r\n", "\n");
    let text = if windows { text.replace('\n', "\r\n") } else { text };
    if old.starts_with('\u{feff}') && !text.starts_with('\u{feff}') { format!("\u{feff}{text}") } else { text }
}

/// The comments above the first header, when no key stands before it: up to the last blank line, which parts them from those of
/// the header itself.
pub(super) fn take_head(document: &mut DocumentMut) -> String {
    let root = document.as_table_mut();
    if root.iter().any(|(_, item)| item.is_value()) {
        return String::new();
    }
    let first = root.iter_mut().filter_map(|(_, item)| match item {
        Item::Table(table) => Some(table),
        _ => None,
    });
    let Some(first) = first.min_by_key(|table| table.position()) else { return String::new() };
    let prefix = first.decor().prefix().and_then(|p| p.as_str()).unwrap_or_default().to_owned();
    let cut = prefix.rfind("\n\n").map(|at| at + 2).or_else(|| prefix.rfind("\n\r\n").map(|at| at + 3)).unwrap_or_default();
    first.decor_mut().set_prefix(format!("\n{}", prefix[cut..].trim_start_matches(['\r', '\n'])));
    prefix[..cut].to_owned()
}
