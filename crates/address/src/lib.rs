//! Addresses of the web that people, models and servers write, read strictly: what two parsers may read as two hosts is refused. Which of
//! them may be asked is not said here; the host's client says it for each request.

pub use url::Url;

/// Longest address, in bytes.
pub const LONGEST: usize = 4096;

/// Reads an absolute http or https address without a name or a password in it. The fragment is left out: no server sees it.
///
/// # Errors
/// Why not, as the end of a sentence that begins with the address, which is not repeated: it may hold a secret.
pub fn parse(text: &str) -> Result<Url, String> {
    let text = text.trim_matches(' ');
    check_spelling(text)?;
    let url = Url::parse(text).map_err(|e| match e {
        url::ParseError::RelativeUrlWithoutBase => "is not absolute; begin with https://".to_owned(),
        e => format!("is no URL: {e}"),
    })?;
    check(url)
}

/// Reads the address that an answer from `from` leads to.
///
/// # Errors
/// As [`parse`].
pub fn redirected(from: &Url, location: &str) -> Result<Url, String> {
    check_spelling(location)?;
    let url = check(from.join(location).map_err(|e| format!("is no URL: {e}"))?)?;
    if from.scheme() == "https" && url.scheme() == "http" {
        return Err("would go on without encryption".into());
    }
    Ok(url)
}

/// What parsers drop or turn around without a word, so that two of them may read two hosts.
fn check_spelling(text: &str) -> Result<(), String> {
    if text.len() > LONGEST {
        return Err(format!("has {} bytes; at most {LONGEST} are sent", text.len()));
    }
    if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err("holds a space or a control character; percent-encode it".into());
    }
    if text.contains('\\') {
        return Err("holds a backslash, which some read as a slash; write %5C".into());
    }
    // `//user@host` and `https://user@host`, before a parser drops an empty name.
    let authority = text.split_once("//").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    if authority.contains('@') && text.split(['/', '?', '#']).next().is_none_or(|first| first.is_empty() || first.ends_with(':')) {
        return Err("holds a user name, which is not sent".into());
    }
    Ok(())
}

fn check(mut url: Url) -> Result<Url, String> {
    if !["http", "https"].contains(&url.scheme()) {
        return Err("has a scheme other than http and https".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name, which is not sent".into());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host".into());
    }
    url.set_fragment(None);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_read_in_two_ways_is_refused_and_not_repeated() {
        for (text, why) in [
            ("example.com/s3cret", "is not absolute; begin with https://"),
            ("", "is not absolute; begin with https://"),
            ("http:///s3cret", ""),
            ("https://", "is no URL: empty host"),
            ("https://:80/s3cret", "is no URL: empty host"),
            ("ftp://example.com/s3cret", "has a scheme other than http and https"),
            ("file:///etc/passwd", "has a scheme other than http and https"),
            ("https://ann:s3cret@example.com/", "holds a user name, which is not sent"),
            ("https://@example.com/", "holds a user name, which is not sent"),
            ("https://example.com/a b", "holds a space or a control character; percent-encode it"),
            ("https://example.com\\@s3cret", "holds a backslash, which some read as a slash; write %5C"),
            ("https://example.com:99999/", "is no URL: invalid port number"),
            ("https://[::1/", "is no URL: invalid IPv6 address"),
        ] {
            match parse(text) {
                Ok(url) => assert_eq!((why, url.host_str()), ("", Some("s3cret")), "{text}"),
                Err(told) => assert_eq!(told, why, "{text}"),
            }
        }
        for text in ["http://127.0.0.1:9000/a", "https://example.com", " https://[::1]:8443/x?y=z#w "] {
            assert!(parse(text).is_ok(), "{text}");
        }
        let long = format!("https://example.com/{}", "x".repeat(LONGEST));
        assert_eq!(parse(&long).unwrap_err(), format!("has {} bytes; at most {LONGEST} are sent", long.len()));
    }
}
