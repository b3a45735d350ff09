//! `~/.netrc`, or the file that `NETRC` names: user names and passwords by host, read as Python (and so pip) reads it.
//!
//! A file that is not there, cannot be read or is not understood gives nothing: the server's answer then says what is
//! missing. Nothing here implements `Debug` or `Display`.

use std::{env, fs, path::PathBuf, str::Chars};

/// The logins of a netrc file.
#[derive(Default)]
pub(crate) struct Netrc {
    /// By host; the empty one is `default`.
    entries: Vec<(String, Login)>,
}

/// A user name and a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Netrc {
    /// The user's own.
    pub(crate) fn of_user() -> Self {
        let named = env::var_os("NETRC").filter(|path| !path.is_empty()).map(PathBuf::from);
        let home = || env::home_dir().into_iter().flat_map(|home| [".netrc", "_netrc"].map(|name| home.join(name)));
        let path = named.or_else(|| home().find(|path| path.is_file()));
        path.and_then(|path| fs::read_to_string(path).ok()).and_then(|text| Self::parse(&text)).unwrap_or_default()
    }

    /// The login for `host`, else the default one.
    pub(crate) fn login(&self, host: &str) -> Option<&Login> {
        let entry = |wanted: &str| self.entries.iter().rev().find(|(host, _)| host.eq_ignore_ascii_case(wanted));
        entry(host).or_else(|| entry("")).map(|(_, login)| login)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut netrc = Self::default();
        let mut words = Words(text.chars());
        while let Some(word) = words.next() {
            match word.as_str() {
                "machine" => netrc.entries.push((words.next()?, Login::default())),
                "default" => netrc.entries.push((String::new(), Login::default())),
                "macdef" => words.skip_macro(),
                word if word.starts_with('#') => words.skip_line(),
                key => {
                    let (_, login) = netrc.entries.last_mut()?;
                    match key {
                        "login" | "user" => login.user = words.next()?,
                        "password" => login.password = words.next()?,
                        "account" => drop(words.next()?),
                        _ => return None,
                    }
                }
            }
        }
        Some(netrc)
    }
}

/// What is left of the file. Words are separated by white space; quotes keep it, a backslash keeps the next character.
struct Words<'t>(Chars<'t>);

impl Words<'_> {
    fn next(&mut self) -> Option<String> {
        self.0 = self.0.as_str().trim_start().chars();
        if self.0.as_str().is_empty() {
            return None;
        }
        let quoted = self.0.as_str().starts_with('"');
        if quoted {
            self.0.next();
        }
        let mut word = String::new();
        loop {
            let before = self.0.clone();
            match self.0.next() {
                None => break,
                Some('"') if quoted => break,
                Some('\\') => word.extend(self.0.next()),
                // The separator stays: a comment must see where its line ends.
                Some(letter) if letter.is_whitespace() && !quoted => {
                    self.0 = before;
                    break;
                }
                Some(letter) => word.push(letter),
            }
        }
        Some(word)
    }

    /// To the end of the line.
    fn skip_line(&mut self) {
        self.0 = self.0.as_str().split_once('\n').map_or("", |(_, rest)| rest).chars();
    }

    /// To the empty line that ends a macro.
    fn skip_macro(&mut self) {
        self.skip_line();
        while let Some((line, _)) = self.0.as_str().split_once('\n') {
            self.skip_line();
            if line.trim().is_empty() {
                return;
            }
        }
        self.0 = "".chars();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(text: &str, host: &str) -> Option<(String, String)> {
        Netrc::parse(text)?.login(host).map(|login| (login.user.clone(), login.password.clone()))
    }

    fn pair(user: &str, password: &str) -> Option<(String, String)> {
        Some((user.to_owned(), password.to_owned()))
    }

    #[test]
    fn logins_are_found_by_host_in_every_form_that_python_reads() {
        let text = "# mine\nmachine a.example login me password s3cret\nmachine B.example\n\tlogin you account x\n\tpassword \"two words\\\"\"\n\
                    macdef init\ncd /pub\nmachine evil login a password b\n\nmachine c.example password only # said once\n\
                    default login anyone password guest\n";
        assert_eq!(login(text, "A.example"), pair("me", "s3cret"));
        assert_eq!(login(text, "b.example"), pair("you", "two words\""));
        assert_eq!(login(text, "c.example"), pair("", "only"));
        assert_eq!(login(text, "evil"), pair("anyone", "guest"), "a macro is no entry");
        assert_eq!(login("machine a login x password #1", "a"), pair("x", "#1"), "no comment in place of a value");
        assert_eq!(login("machine a login x password y\nmachine a login z password w", "a"), pair("z", "w"), "the last counts");
    }

    #[test]
    fn what_is_not_understood_gives_nothing() {
        for text in ["login me", "machine", "machine a login", "machine a login me says what", "<html>"] {
            assert!(Netrc::parse(text).is_none(), "{text}");
        }
        assert_eq!(login("", "a"), None);
        assert_eq!(login("machine a login x password y", "b"), None);
    }
}
