//! What an entry of a list opens, and what is said of the rest.

use bespoke_host::{HttpAllowed, HttpClient};
use bespoke_http::{
    Client,
    testing::{Names, Server},
};
use bespoke_plugin_api::HttpRequest;
use expect_test::expect;

use crate::kit::{told, within};

/// Whether a list lets a request through: entries are separated by spaces, `private` ones are marked with `!`.
async fn opens(list: &str, url: &str) -> bool {
    let network = Names::new()
        .name("a.test", &["93.184.216.34"])
        .name("b.a.test", &["93.184.216.34"])
        .name("nota.test", &["93.184.216.34"])
        .name("xn--bcher-kva.test", &["93.184.216.34"])
        .name("nas.test", &["192.168.1.5", "fe80::1"])
        .name("loop.test", &["127.0.0.1", "::1"])
        .name("cgnat.test", &["100.64.0.1"])
        .name("link.test", &["169.254.0.1"])
        .name("meta.test", &["169.254.169.254"])
        .name("bench.test", &["198.18.0.1"])
        .name("many.test", &["224.0.0.1"])
        .name("both.test", &["192.168.1.5", "10.0.0.1"]);
    let client = Client::builder().network(network.clone()).build();
    let allowed = list.split(' ').fold(HttpAllowed::new("test"), |allowed, entry| match entry.strip_suffix('!') {
        Some(entry) => allowed.private(entry),
        None => allowed.host(entry),
    });
    let error = within(client.send(allowed, HttpRequest::new("GET", url))).await.unwrap_err();
    // Nothing is routed, so what gets through ends at the first connection.
    let tried = error.kind() == "NETWORK_FAILED";
    assert!(tried || error.kind() == "PERMISSION_DENIED", "{list}, {url}: {}", told(&error));
    assert_eq!(tried, !network.connected().is_empty());
    tried
}

#[tokio::test]
async fn entries() {
    let rows: &[(&str, &[&str], &[&str])] = &[
        // entry, what it opens, what it does not
        (
            "a.test",
            &["http://a.test/", "https://a.test/", "http://A.TEST./", "http://a.test:443/"],
            &["http://a.test:8080/", "http://b.a.test/", "http://nota.test/", "http://93.184.216.34/"],
        ),
        ("A.Test.", &["http://a.test/"], &["http://b.a.test/"]),
        ("a.test:8080", &["http://a.test:8080/"], &["http://a.test/"]),
        ("a.test:*", &["http://a.test/", "http://a.test:1/"], &["http://nota.test/"]),
        ("*.a.test", &["http://b.a.test/"], &["http://a.test/", "http://nota.test/"]),
        (
            "*",
            &["http://a.test/", "http://93.184.216.34/", "http://[2606:4700::1111]/"],
            &["http://a.test:81/", "http://nas.test/", "http://127.0.0.1/"],
        ),
        ("*:*", &["http://a.test:81/"], &["http://127.0.0.1:81/"]),
        ("bücher.test", &["http://bücher.test/", "http://BÜCHER.test/", "http://xn--bcher-kva.test/"], &["http://bucher.test/"]),
        ("https://a.test/v1", &["https://a.test/", "http://a.test:443/v2"], &["http://a.test/", "https://a.test:8443/"]),
        ("http://a.test:8080", &["http://a.test:8080/"], &["http://a.test/"]),
        ("http://nas.test:8080", &[], &["http://nas.test:8080/"]),
        ("http://nas.test:8080!", &["http://nas.test:8080/"], &["http://nas.test/", "http://192.168.1.5:8080/"]),
        (
            "http://127.1:8080/v1!",
            &["http://127.0.0.1:8080/", "http://0x7f.1:8080/"],
            &["http://127.0.0.1/", "http://127.0.0.2:8080/", "http://loop.test:8080/"],
        ),
        ("http://[::1]:8080!", &["http://[::1]:8080/"], &["http://127.0.0.1:8080/"]),
        ("loop.test!", &["http://loop.test/"], &["http://127.0.0.1/"]),
        ("cgnat.test!", &["http://cgnat.test/"], &[]),
        ("link.test!", &[], &["http://link.test/"]),
        ("meta.test!", &[], &["http://meta.test/"]),
        ("bench.test!", &[], &["http://bench.test/"]),
        ("many.test!", &[], &["http://many.test/"]),
        (
            "*:*!",
            &["http://loop.test:1/", "http://127.0.0.1/", "http://nas.test/"],
            &["http://169.254.169.254/", "http://link.test/", "http://0.0.0.0/", "http://[fd00:ec2::254]/"],
        ),
        (
            "127.0.0.1!",
            &["http://127.0.0.1/", "http://[::ffff:127.0.0.1]/"],
            &["http://127.0.0.2/", "http://[::1]/", "http://127.0.0.1:81/"],
        ),
        ("::1!", &["http://[::1]/"], &["http://[::2]/"]),
        ("[::1]:81!", &["http://[::1]:81/"], &["http://[::1]/"]),
        ("93.184.216.34", &["http://93.184.216.34/"], &["http://127.0.0.1/", "http://a.test/"]),
        ("a.test 10.0.0.0/8!", &["http://a.test/", "http://10.0.0.1/"], &["http://both.test/", "http://nota.test/"]),
        ("both.test 10.0.0.0/8! 192.168.1.5!", &["http://both.test/"], &["http://both.test:81/", "http://nas.test/"]),
        ("link.test bench.test meta.test 0.0.0.0/0!", &["http://link.test/", "http://bench.test/"], &["http://meta.test/"]),
        ("meta.test 169.254.169.254!", &["http://meta.test/"], &["http://a.test/"]),
        ("10.0.0.0/8", &[], &["http://10.0.0.1/"]),
        ("10.0.0.0/8!", &["http://10.1.2.3/"], &["http://11.0.0.1/", "http://both.test/", "http://10.0.0.1:81/"]),
        ("192.168.0.0/16:*!", &["http://192.168.1.5:1/"], &["http://nas.test/"]),
        (
            "0.0.0.0/0!",
            &["http://10.0.0.1/", "http://93.184.216.34/", "http://169.254.0.1/", "http://198.18.0.1/"],
            &[
                "http://both.test/",
                "http://a.test/",
                "http://link.test/",
                "http://bench.test/",
                "http://meta.test/",
                "http://169.254.169.254/",
                "http://many.test/",
                "http://0.0.0.0/",
                "http://255.255.255.255/",
                "http://loop.test/",
            ],
        ),
        (
            "169.254.169.254!",
            &["http://169.254.169.254/", "http://[::ffff:169.254.169.254]/"],
            &["http://meta.test/", "http://169.254.170.2/", "http://[64:ff9b::a9fe:a9fe]/"],
        ),
        ("169.254.169.254/32!", &[], &["http://169.254.169.254/"]),
        ("fd00::/8!", &["http://[fd12::1]/"], &["http://[fc00::1]/", "http://[fd00:ec2::254]/"]),
        ("[fd00::/8]:81!", &["http://[fd12::1]:81/"], &["http://[fd12::1]/"]),
    ];
    for (entry, open, shut) in rows {
        for url in *open {
            assert!(opens(entry, url).await, "{entry} should open {url}");
        }
        for url in *shut {
            assert!(!opens(entry, url).await, "{entry} should not open {url}");
        }
    }
}

#[tokio::test]
async fn entries_that_are_none_say_where_they_stand() {
    let client = Client::builder().network(Names::new()).build();
    for bad in [
        "",
        " ",
        "a b",
        "a.test/path",
        "ftp://a.test",
        "http://user:s3cret@a.test/",
        "http://",
        "a.test:0",
        "a.test:x",
        "*.*.test",
        "a*.test",
        "*.",
        "[::1",
        "10.0.0.0/33",
        "1.2.3.4.5",
        "a.test:80:80",
        "http://a.test:0",
        "**",
    ] {
        let allowed = HttpAllowed::new("test").host("a.test").host(bad);
        let error = within(client.send(allowed.clone(), HttpRequest::new("GET", "http://a.test/"))).await.unwrap_err();
        assert_eq!(
            told(&error),
            "INVALID_PARAMS plugin.toml: an entry is no host, URL or range of addresses that plugin `test` could be allowed\n    help: write a host such as example.com, *.example.com, 10.0.0.5:8080 or [::1], a URL, or a range such as 10.0.0.0/8\n",
            "{bad}"
        );
        assert!(!format!("{allowed:?}").contains("s3cret"));
    }
}

#[tokio::test]
async fn nothing_is_looked_up_that_no_entry_could_open() {
    let network = Names::new();
    let client = Client::builder().network(network.clone()).build();
    let allowed = HttpAllowed::new("test").host("a.test").host("*.b.test:81").private("10.0.0.0/8:*").host("8.8.8.8");
    let mut said = String::new();
    for url in ["http://secret-in-a-name.evil.test/", "http://x.b.test/", "http://a.test:81/"] {
        said += &told(&within(client.send(allowed.clone(), HttpRequest::new("GET", url))).await.unwrap_err());
    }
    expect![[r#"
        PERMISSION_DENIED plugin `test` may not send requests to secret-in-a-name.evil.test: plugin.toml does not list it
            help: add "secret-in-a-name.evil.test" to network_access under [permissions] in plugin.toml
        PERMISSION_DENIED plugin `test` may not send requests to x.b.test: plugin.toml does not list it for port 80
            help: add "x.b.test" to network_access under [permissions] in plugin.toml
        PERMISSION_DENIED plugin `test` may not send requests to a.test:81: plugin.toml does not list it for port 81
            help: add "a.test:81" to network_access under [permissions] in plugin.toml
    "#]]
    .assert_eq(&said);
    assert!(network.looked_up().is_empty());
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_does_not_answer() {
    let server = Server::of("HTTP/1.1 200 OK\r\n\r\n").await;
    let network = Names::new().name("a.test", &["93.184.216.34", "93.184.216.35"]).route("93.184.216.35:80", server.address());
    let client = Client::builder().network(network.clone()).build();
    let reply = within(client.send(HttpAllowed::new("test").host("*"), HttpRequest::new("GET", "http://a.test/"))).await.unwrap();
    assert_eq!((reply.status, network.connected().len()), (200, 2));
}
