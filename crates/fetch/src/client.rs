//! HTTP as all downloads use it: proxies, certificates, time limits, redirects, and who may see which password.
//!
//! It asks once and hands over what comes; trying again is [`crate::download`]'s.
//!
//! **Invariant:** a user name and password go to the scheme, host and port that they were given for, those of a netrc
//! file to their host, and nothing goes over plain HTTP after HTTPS: neither after a redirect nor to what a page links
//! to. No URL that holds them reaches `ureq`, a message or a file: they become a header here.

use std::{
    io::{self, Read as _},
    sync::{
        Arc,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use percent_encoding::percent_decode_str;
use ureq::{
    Agent, Body,
    config::Config,
    http::{HeaderMap, HeaderValue, Response, header},
    tls::{RootCerts, TlsConfig},
};
use url::Url;

use crate::{
    Index, Limits,
    error::Failure,
    netrc::{Login, Netrc},
    sink::CHUNK,
};

/// How many redirects lead to a file at most.
const REDIRECTS: u32 = 10;

/// What one run downloads with.
#[derive(Clone)]
pub(crate) struct Client(Arc<Inner>);

struct Inner {
    agent: Agent,
    index: Option<Url>,
    netrc: Netrc,
    limits: Limits,
}

/// One thing that is asked for.
#[derive(Clone)]
pub(crate) struct Question {
    pub(crate) url: Url,
    /// What kinds of page are understood; any when absent.
    pub(crate) accept: Option<&'static str>,
    /// It was named by a page that came over HTTPS, or should have: over plain HTTP nobody is told a password for it.
    secure: bool,
}

impl Question {
    /// For what a user or a pin names.
    pub(crate) fn new(url: Url, accept: Option<&'static str>) -> Self {
        Self { url, accept, secure: false }
    }

    /// For what a page links to, which was asked for at one address and came from another.
    pub(crate) fn linked(url: Url, asked: &Url, came_from: &Url) -> Self {
        let secure = [asked, came_from].iter().any(|page| page.scheme() == "https");
        Self { url, accept: None, secure }
    }
}

/// What comes of it, in this order: an answer, bytes, the end. A failure takes the place of any of them.
pub(crate) enum Event {
    Answer(Answer),
    Bytes(Vec<u8>),
    End,
    Failed(Failure),
}

/// The head of an answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Of the body, where the server announced it and did not encode the body.
    pub(crate) length: Option<u64>,
    /// The body is compressed, though that was not asked for.
    pub(crate) encoded: bool,
    /// When to ask again, as the server says.
    pub(crate) retry_after: Option<Duration>,
    /// Where it came from, after redirects.
    pub(crate) url: Url,
    pub(crate) content_type: String,
    /// `Content-Range`, as start and, where given, the size of the whole.
    range: Option<(u64, Option<u64>)>,
}

impl Answer {
    /// Whether the body goes on at byte `at` of a whole of `size` bytes.
    pub(crate) fn continues(&self, at: u64, size: Option<u64>) -> bool {
        let fits = |total: Option<u64>| total.is_none() || size.is_none() || total == size;
        !self.encoded && self.range.is_some_and(|(start, total)| start == at && fits(total))
    }
}

impl Client {
    pub(crate) fn new(limits: &Limits, index: Option<&Index>) -> Self {
        let index = index.map(|index| index.url().clone());
        Self(Arc::new(Inner { agent: agent(limits), index, netrc: Netrc::of_user(), limits: limits.clone() }))
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Asks on a thread of its own, which ends by itself soon after the receiver is dropped: at the next chunk, or at
    /// [`Limits::stall`] when none comes. `had` bytes are there already.
    pub(crate) fn ask(&self, question: &Question, had: u64) -> Receiver<Event> {
        let (to, from) = mpsc::sync_channel(8);
        let refused = to.clone();
        let (inner, question) = (Arc::clone(&self.0), question.clone());
        let spawned = thread::Builder::new().name("fetch".to_owned()).spawn(move || inner.exchange(&question, had, &to));
        if let Err(e) = spawned {
            // The channel has room for the first event.
            let _ = refused.try_send(Event::Failed(Failure::Connection(format!("no thread for it: {e}"))));
        }
        from
    }
}

impl Inner {
    fn exchange(&self, question: &Question, had: u64, to: &SyncSender<Event>) {
        let (response, url) = match self.follow(question, had) {
            Ok(answered) => answered,
            Err(failure) => {
                let _ = to.send(Event::Failed(failure));
                return;
            }
        };
        let headers = response.headers();
        let encoded = headers.get(header::CONTENT_ENCODING).is_some_and(|v| v != "identity");
        let answer = Answer {
            status: response.status().as_u16(),
            length: number(headers, header::CONTENT_LENGTH).filter(|_| !encoded),
            encoded,
            retry_after: number(headers, header::RETRY_AFTER).map(Duration::from_secs),
            url,
            content_type: text(headers, header::CONTENT_TYPE).unwrap_or_default().to_owned(),
            range: text(headers, header::CONTENT_RANGE).and_then(parse_range),
        };
        if to.send(Event::Answer(answer)).is_err() {
            return;
        }
        let mut body = response.into_body().into_reader();
        loop {
            let mut chunk = vec![0; CHUNK];
            let event = match body.read(&mut chunk) {
                Ok(0) => Event::End,
                Ok(n) => {
                    chunk.truncate(n);
                    Event::Bytes(chunk)
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => Event::Failed(failure(e.into(), &self.limits)),
            };
            let last = !matches!(event, Event::Bytes(_));
            if to.send(event).is_err() || last {
                return;
            }
        }
    }

    /// The first answer that is no redirect, and where it came from.
    fn follow(&self, question: &Question, had: u64) -> Result<(Response<Body>, Url), Failure> {
        let mut url = without_login(&question.url);
        for _ in 0..=REDIRECTS {
            let mut request = self.agent.get(url.as_str());
            if let Some(accept) = question.accept {
                request = request.header(header::ACCEPT, accept);
            }
            if had > 0 {
                request = request.header(header::RANGE, format!("bytes={had}-"));
            }
            if let Some(login) = self.login(question, &url).and_then(|login| basic(&login)) {
                request = request.header(header::AUTHORIZATION, login);
            }
            let response = request.call().map_err(|e| failure(e, &self.limits))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((response, url));
            }
            let next = text(response.headers(), header::LOCATION).and_then(|to| url.join(to).ok());
            let next = next.filter(|next| matches!(next.scheme(), "http" | "https"));
            url = without_login(&next.ok_or_else(|| Failure::Connection("the server redirects to no http address".to_owned()))?);
        }
        Err(Failure::Connection(format!("more than {REDIRECTS} redirects, one after the other")))
    }

    /// What `url` may be told, where the question has led to it.
    fn login(&self, question: &Question, url: &Url) -> Option<Login> {
        let first = &question.url;
        if (question.secure || first.scheme() == "https") && url.scheme() != "https" {
            return None;
        }
        let given = [Some(first), self.index.as_ref()].into_iter().flatten();
        let given = given.filter(|given| given.origin() == url.origin()).find_map(login_in);
        given.or_else(|| self.netrc.login(url.host_str()?).cloned())
    }
}

/// `url` without user name and password.
pub(crate) fn without_login(url: &Url) -> Url {
    let mut plain = url.clone();
    // Only a URL that cannot have them refuses.
    let _ = plain.set_username("");
    let _ = plain.set_password(None);
    plain
}

fn login_in(url: &Url) -> Option<Login> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some(Login { user: decoded(url.username()), password: decoded(url.password().unwrap_or_default()) })
}

fn basic(login: &Login) -> Option<HeaderValue> {
    let text = format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", login.user, login.password)));
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Proxies come from the environment, certificates from the operating system.
fn agent(limits: &Limits) -> Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = Config::builder()
        .tls_config(tls)
        .http_status_as_error(false)
        // Followed here, where it is known who may see which password.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("bespoke-fetch/", env!("CARGO_PKG_VERSION")))
        // Ranges count bytes of the file, not of a compressed form of it.
        .accept_encoding("identity")
        .timeout_resolve(Some(limits.connect))
        .timeout_connect(Some(limits.connect))
        .timeout_recv_response(Some(limits.stall))
        .timeout_per_read(Some(limits.stall))
        .timeout_global(Some(limits.total))
        .build();
    Agent::new_with_config(config)
}

fn failure(e: ureq::Error, limits: &Limits) -> Failure {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match e {
        ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => Failure::TimedOut(limits.connect),
        ureq::Error::Timeout(ureq::Timeout::PerRead | ureq::Timeout::RecvResponse) => Failure::TimedOut(limits.stall),
        ureq::Error::Timeout(_) => Failure::TimedOut(limits.total),
        ureq::Error::HostNotFound => Failure::Connection("the host name is not known".to_owned()),
        // They may quote an address.
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => Failure::Connection("the address cannot be asked for over HTTP".to_owned()),
        ureq::Error::Io(e) if matches!(e.kind(), ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof) => {
            Failure::Dropped(e.to_string())
        }
        ureq::Error::Protocol(e) => Failure::Dropped(e.to_string()),
        other => Failure::Connection(other.to_string()),
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn number(headers: &HeaderMap, name: header::HeaderName) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}

/// `bytes 100-199/200` or `bytes 100-199/*`.
fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-')?.0.trim().parse().ok()?;
    let total = if total.trim() == "*" { None } else { Some(total.trim().parse().ok()?) };
    Some((start, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_or_refused() {
        assert_eq!(parse_range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(parse_range("bytes 0-9/*"), Some((0, None)));
        for bad in ["bytes */200", "100-199/200", "bytes a-b/c", "bytes 5", ""] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_password_goes_to_its_own_origin_only() {
        let index = Index::new("https://me:p%40ss@index.example:8443/simple/").unwrap();
        let inner = Client::new(&Limits::default(), Some(&index)).0;
        let to = |first: &str, url: &str| {
            let login = inner.login(&Question::new(parsed(first), None), &parsed(url));
            login.map(|login| format!("{}:{}", login.user, login.password))
        };
        let page = "https://index.example:8443/simple/x/";
        assert_eq!(to(page, page).as_deref(), Some("me:p@ss"));
        assert_eq!(to(page, "https://index.example:8443/files/x.whl").as_deref(), Some("me:p@ss"));
        for elsewhere in
            ["https://index.example/x", "http://index.example:8443/x", "https://other.example:8443/x", "https://index.example.org:8443/"]
        {
            assert_eq!(to(page, elsewhere), None, "{elsewhere}");
            assert_eq!(to(elsewhere, elsewhere), None, "{elsewhere}");
        }
        // The URL of a file may have its own.
        let own = "https://you:there@files.example/x";
        assert_eq!(to(own, "https://files.example/x").as_deref(), Some("you:there"));
        assert_eq!(to(own, "https://elsewhere.example/x"), None);
    }

    #[test]
    fn what_an_https_page_links_to_is_told_no_password_over_plain_http() {
        let mut inner = Arc::into_inner(Client::new(&Limits::default(), None).0).unwrap();
        inner.netrc = Netrc::parse("machine index.example login me password s3cret").unwrap();
        let (secure, plain) = (parsed("https://index.example/simple/x/"), parsed("http://index.example/simple/x/"));
        let told = |question: &Question, url: &Url| inner.login(question, url).is_some();
        for (asked, came_from, link, expected) in [
            (&secure, &secure, "https://index.example/x.whl", true),
            (&secure, &secure, "http://index.example/x.whl", false),
            (&secure, &secure, "http://other:pw@index.example/x.whl", false),
            // A redirect to plain HTTP, and one from it.
            (&secure, &plain, "http://index.example/x.whl", false),
            (&plain, &secure, "http://index.example/x.whl", false),
            // Whoever sets up an index without encryption has asked for it.
            (&plain, &plain, "http://index.example/x.whl", true),
            (&plain, &plain, "http://other.example/x.whl", false),
        ] {
            let question = Question::linked(parsed(link), asked, came_from);
            assert_eq!(told(&question, &question.url), expected, "{asked} {came_from} {link}");
        }
        // Nor when what is linked over HTTPS leads there.
        let question = Question::linked(parsed("https://index.example/x.whl"), &secure, &secure);
        assert!(!told(&question, &parsed("http://index.example/x.whl")));
        assert!(told(&Question::new(plain.clone(), None), &plain));
    }

    fn parsed(url: &str) -> Url {
        Url::parse(url).unwrap()
    }
}
