//! A package index by URL: which one is used, what it is asked for, and who may see its password.
//!
//! Not a resolver: one file of one version of one project is looked up. Extra indexes are never asked: a stranger could
//! answer there for a name that is meant for the first.

use std::{env, ffi::OsString, fmt};

use url::Url;

use crate::Error;

/// The settings from the environment, in their order.
const VARIABLES: [&str; 4] = ["BESPOKE_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"];

/// A package index: the URL under which each project has a page of links (PEP 503 or PEP 691).
///
/// A user name and password in the URL are sent as Basic authentication to the URL's own scheme, host and port, and to
/// nobody else; for other hosts, and without them, `~/.netrc` (or the file that `NETRC` names) is asked. Neither
/// `Debug` nor `Display` shows them.
#[derive(Clone, PartialEq, Eq)]
pub struct Index {
    /// Ends with a slash; without query and fragment.
    url: Url,
}

impl Index {
    /// The index of the first setting that is given: `flag` (`--index-url`), `configured` (`plugins.index_url`),
    /// `BESPOKE_INDEX_URL`, `UV_DEFAULT_INDEX`, `UV_INDEX_URL`, `PIP_INDEX_URL`. `None` when there is none: then pip,
    /// which knows its own, is used. An empty value counts as not given.
    ///
    /// # Errors
    /// [`Error::InvalidIndex`] names the setting whose value is not usable. The next one is not tried: files would come
    /// from where the user did not mean them to.
    pub fn choose(flag: Option<&str>, configured: Option<&str>) -> Result<Option<Self>, Error> {
        Self::choose_with(flag, configured, &|variable| env::var_os(variable))
    }

    /// The index at `url`.
    ///
    /// # Errors
    /// [`Error::InvalidIndex`]; it does not show `url`, which may hold a password.
    pub fn new(url: &str) -> Result<Self, Error> {
        Self::of("the index URL", url)
    }

    fn choose_with(
        flag: Option<&str>,
        configured: Option<&str>,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Option<Self>, Error> {
        let given = [("--index-url", flag), ("plugins.index_url", configured)];
        let given = given.into_iter().filter_map(|(setting, value)| Some((setting, OsString::from(value?))));
        let variables = VARIABLES.into_iter().filter_map(|name| Some((name, variable(name)?)));
        let Some((setting, value)) = given.chain(variables).find(|(_, value)| !value.is_empty()) else { return Ok(None) };
        let invalid = |why: &str| Error::InvalidIndex { setting: setting.to_owned(), why: why.to_owned() };
        let value = value.to_str().ok_or_else(|| invalid("is not UTF-8"))?;
        Self::of(setting, value).map(Some)
    }

    fn of(setting: &str, value: &str) -> Result<Self, Error> {
        let invalid = |why: &str| Error::InvalidIndex { setting: setting.to_owned(), why: why.to_owned() };
        // uv allows `name=https://…` in its settings.
        let text = match value.trim().split_once('=') {
            Some((name, url)) if !name.contains(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c))) => url,
            _ => value.trim(),
        };
        let mut url = Url::parse(text).map_err(|e| invalid(&format!("is no URL ({e})")))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(invalid("must begin with https:// or http://"));
        }
        if url.query().is_some() {
            return Err(invalid("has a query; project pages are paths below it"));
        }
        url.set_fragment(None);
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(Self { url })
    }
}

/// The URL without user name and password.
impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.url.clone();
        // Only a URL that cannot have them refuses.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        f.write_str(shown.as_str())
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Index({self})")
    }
}
