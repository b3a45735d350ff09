//! A package index by URL: which one is used, what it is asked for, and who may see its password.
//!
//! Not a resolver: one file of one version of one project is looked up. Extra indexes are never asked: a stranger could
//! answer there for a name that is meant for the first.

use std::{cmp::Reverse, env, ffi::OsString, fmt};

use url::Url;

use crate::{
    Error,
    client::without_login,
    name::{self, WheelName},
    package::Ask,
    page::Link,
};

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

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// The page of `project`, which passed [`name::pip_problem`].
    pub(crate) fn page(&self, project: &str) -> Url {
        let mut page = self.url.clone();
        page.set_path(&format!("{}{}/", self.url.path(), name::normalised(project).replace('_', "-")));
        page
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
        f.write_str(without_login(&self.url).as_str())
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Index({self})")
    }
}

/// The wheel among `links` that is asked for. A digest on the page only decides between several that fit.
pub(crate) fn select(links: Vec<Link>, ask: &Ask<'_>) -> Option<Link> {
    let pinned = |link: &Link| link.sha256.is_some_and(|digest| ask.hashes.contains(&digest));
    let mut fitting: Vec<(Link, WheelName)> = links
        .into_iter()
        .filter(|link| ask.file.is_none_or(|file| file == link.name))
        .filter_map(|link| Some((WheelName::parse(&link.name)?, link)))
        .filter(|(named, _)| ask.file.is_some() || (named.is_of(ask.project, ask.version) && fits(named, ask)))
        .map(|(named, link)| (link, named))
        .collect();
    // The newest platform last, so that of several the one that runs on most machines comes first.
    fitting.sort_by_cached_key(|(link, named)| {
        (!pinned(link), !is_any(named), Reverse(named.abi.contains(&"none".to_owned())), link.name.clone())
    });
    fitting.into_iter().next().map(|(link, _)| link)
}

fn is_any(named: &WheelName) -> bool {
    named.platform.iter().any(|tag| tag == "any")
}

/// Whether a wheel's tags allow the platform and the Python that are asked for.
fn fits(named: &WheelName, ask: &Ask<'_>) -> bool {
    let platform = |tag: &String| match ask.platform {
        [] => tag == "any" || is_of_this_machine(tag),
        wanted => tag == "any" || wanted.iter().any(|wanted| runs_on(tag, &wanted.to_ascii_lowercase())),
    };
    // The wheel is data to us: without a wish, which Pythons could run it does not matter.
    let python = |wanted: &str| named.python.iter().any(|tag| runs_in(tag, &named.abi, wanted));
    named.platform.iter().any(platform) && ask.python_version.is_none_or(python)
}

/// Whether a wheel with the platform tag `tag` runs where `wanted` does: the same, or built for an older system.
fn runs_on(tag: &str, wanted: &str) -> bool {
    match (Versioned::parse(tag), Versioned::parse(wanted)) {
        (Some(tag), Some(wanted)) => {
            let machine = tag.machine == wanted.machine || (tag.family == "macosx" && tag.machine == "universal2");
            tag.family == wanted.family && machine && tag.version <= wanted.version
        }
        _ => tag == wanted,
    }
}

/// A platform tag with a version: `manylinux_2_28_x86_64`, `musllinux_1_2_aarch64`, `macosx_14_0_arm64`.
struct Versioned<'t> {
    family: &'t str,
    version: (u32, u32),
    machine: &'t str,
}

impl<'t> Versioned<'t> {
    fn parse(tag: &'t str) -> Option<Self> {
        let (family, rest) = tag.split_once('_')?;
        let old = match family {
            "manylinux1" => Some((2, 5)),
            "manylinux2010" => Some((2, 12)),
            "manylinux2014" => Some((2, 17)),
            _ => None,
        };
        if let Some(version) = old {
            return Some(Self { family: "manylinux", version, machine: rest });
        }
        let (major, rest) = rest.split_once('_')?;
        let (minor, machine) = rest.split_once('_')?;
        Some(Self { family, version: (major.parse().ok()?, minor.parse().ok()?), machine })
    }
}

/// Whether `tag` names the system and the processor that this program was built for, in any version.
fn is_of_this_machine(tag: &str) -> bool {
    let machine = match (env::consts::OS, env::consts::ARCH) {
        ("windows", "x86_64") => return tag == "win_amd64",
        ("windows", "aarch64") => return tag == "win_arm64",
        ("macos", "aarch64") => "arm64",
        (_, machine) => machine,
    };
    let families: &[&str] = match env::consts::OS {
        "macos" => &["macosx"],
        "linux" if cfg!(target_env = "musl") => &["musllinux"],
        "linux" => &["manylinux"],
        _ => &[],
    };
    let versioned = Versioned::parse(tag).filter(|tag| families.contains(&tag.family));
    let named = versioned.is_some_and(|tag| tag.machine == machine || tag.machine == "universal2");
    named || tag == format!("{}_{machine}", env::consts::OS)
}

/// Whether Python `wanted` (`3.12`) takes a wheel with this Python tag and these binary interfaces.
fn runs_in(tag: &str, abi: &[String], wanted: &str) -> bool {
    let wanted = wanted.replace('.', "");
    let (major, minor) = wanted.split_at(wanted.len().min(1));
    let Some(version) = tag.strip_prefix("py").or_else(|| tag.strip_prefix("cp")) else { return false };
    // `py3` is any 3; `cp39-abi3` is 3.9 and later.
    let older = || -> Option<bool> {
        let built = version.strip_prefix(major)?;
        let later = abi.iter().any(|abi| abi == "abi3" || abi == "none");
        Some(later && built.parse::<u32>().ok()? <= minor.parse::<u32>().ok()?)
    };
    version == wanted || version == major || older().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sha256;

    fn ask<'a>(hashes: &'a [Sha256], platform: &'a [String], python_version: Option<&'a str>) -> Ask<'a> {
        Ask { project: "On_nx", version: "1.0", hashes, platform, python_version, ..Ask::default() }
    }

    fn selected(names: &[&str], ask: &Ask<'_>) -> Option<String> {
        let link = |(at, name): (usize, &&str)| Link {
            name: (*name).to_owned(),
            url: Url::parse("https://index.example/x").unwrap(),
            // Each says of itself that its digest is its place.
            sha256: Some(Sha256([u8::try_from(at).unwrap(); 32])),
        };
        select(names.iter().enumerate().map(link).collect(), ask).map(|link| link.name)
    }

    #[test]
    fn the_first_setting_that_is_given_counts() {
        let all = |name: &str| Some(OsString::from(format!("https://{}.example", name.to_lowercase().replace('_', "-"))));
        let shown = |flag, config, variable: &dyn Fn(&str) -> Option<OsString>| {
            Index::choose_with(flag, config, variable).unwrap().map(|index| index.to_string())
        };
        assert_eq!(shown(Some("https://flag.example/simple"), Some("https://c"), &all).as_deref(), Some("https://flag.example/simple/"));
        assert_eq!(shown(None, Some("http://config.example"), &all).as_deref(), Some("http://config.example/"));
        let order = ["bespoke-index-url", "uv-default-index", "uv-index-url", "pip-index-url"];
        for (at, expected) in order.iter().enumerate() {
            let unset = &VARIABLES[..at];
            let some = |name: &str| if unset.contains(&name) { Some(OsString::new()) } else { all(name) };
            assert_eq!(shown(Some(""), Some(""), &some), Some(format!("https://{expected}.example/")));
        }
        assert_eq!(shown(None, None, &|_| None), None);
        assert_eq!(shown(Some("mine=https://u.example/a#x"), None, &all).as_deref(), Some("https://u.example/a/"));
    }

    #[test]
    fn a_setting_that_is_not_usable_is_named_and_its_value_is_not_shown() {
        for bad in
            ["hunter2", "file:///hunter2", "https://a.example/?token=hunter2", "https://me:hunter2@", "ftp://hunter2@x", "//hunter2/x"]
        {
            let error = Index::choose_with(None, None, &|name| (name == "UV_INDEX_URL").then(|| bad.into())).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains("UV_INDEX_URL") && !text.contains("hunter2"), "{bad}: {text}");
        }
        let index = Index::new("https://me:hunter2@index.example/simple").unwrap();
        assert_eq!(format!("{index} {index:?}"), "https://index.example/simple/ Index(https://index.example/simple/)");
        assert_eq!(index.page("Some__Project.x").path(), "/simple/some-project-x/");
    }

    #[test]
    fn a_wheel_is_chosen_by_version_platform_and_python() {
        let x86 = ["manylinux_2_28_x86_64".to_owned()];
        let names = [
            "on_nx-1.0.tar.gz",
            "on_nx-1.0.1-cp312-cp312-manylinux_2_28_x86_64.whl",
            "on_nx_x-1.0-cp312-cp312-manylinux_2_28_x86_64.whl",
            "on_nx-1.0-cp312-cp312-manylinux_2_28_aarch64.whl",
            "on_nx-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
            "on_nx-1.0-cp312-cp312-manylinux_2_31_x86_64.whl",
            "on_nx-1.0-cp312-cp312-musllinux_1_2_x86_64.whl",
            "on_nx-1.0-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
            "../on_nx-1.0-cp312-cp312-manylinux_2_28_x86_64.whl",
        ];
        assert_eq!(selected(&names, &ask(&[], &x86, Some("3.12"))).as_deref(), Some(names[7]));
        assert_eq!(selected(&names[..7], &ask(&[], &x86, Some("3.12"))), None);
        assert_eq!(selected(&names, &ask(&[], &x86, Some("3.11"))).as_deref(), Some(names[4]));
        for (name, python, fits) in [
            ("On.Nx-1.0-py3-none-any.whl", "3.12", true),
            ("on_nx-1.0-py2.py3-none-any.whl", "3.12", true),
            ("on_nx-1.0-py2-none-any.whl", "3.12", false),
            ("on_nx-1.0-2build-cp39-abi3-manylinux2014_x86_64.whl", "3.12", true),
            ("on_nx-1.0-cp313-abi3-manylinux2014_x86_64.whl", "3.12", false),
            ("on_nx-1.0-cp39-cp39-manylinux2014_x86_64.whl", "3.12", false),
            ("on_nx-1.0-cp312-cp312-linux_x86_64.whl", "3.12", false),
            ("on_nx-1.0-pp310-pypy310_pp73-manylinux2014_x86_64.whl", "3.10", false),
        ] {
            assert_eq!(selected(&[name], &ask(&[], &x86, Some(python))).is_some(), fits, "{name}");
        }
        let mac = ["macosx_14_0_arm64".to_owned()];
        assert!(selected(&["on_nx-1.0-cp312-cp312-macosx_11_0_universal2.whl"], &ask(&[], &mac, None)).is_some());
        assert!(selected(&["on_nx-1.0-cp312-cp312-macosx_15_0_arm64.whl"], &ask(&[], &mac, None)).is_none());
    }

    #[test]
    fn a_pinned_digest_decides_between_wheels_that_fit() {
        let names = ["on_nx-1.0-py3-none-any.whl", "on_nx-1.0-1-py3-none-any.whl", "on_nx-1.0-2-py3-none-any.whl"];
        for at in 0..3 {
            let pinned = [Sha256([9; 32]), Sha256([at; 32])];
            assert_eq!(selected(&names, &ask(&pinned, &[], None)).as_deref(), Some(names[usize::from(at)]));
        }
        // A page that knows none of them is not believed either: the bytes will tell.
        assert!(selected(&names, &ask(&[Sha256([9; 32])], &[], None)).is_some());
    }

    #[test]
    #[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
    fn without_a_platform_it_is_this_machine() {
        let fits = |tag: &str| selected(&[&format!("on_nx-1.0-py3-none-{tag}.whl")], &ask(&[], &[], None)).is_some();
        assert!(fits("any") && fits("manylinux_2_28_x86_64") && fits("linux_x86_64") && fits("manylinux1_x86_64"));
        assert!(!fits("manylinux_2_28_aarch64") && !fits("win_amd64") && !fits("macosx_11_0_universal2") && !fits("musllinux_1_2_x86_64"));
    }
}
