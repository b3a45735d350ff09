//! Attempts to reach what was not allowed, by the model and by servers that redirect: each is refused, with its reason, and no
//! connection is made but to the server that was allowed.

use bespoke_host::Config;
use bespoke_http::testing::Names;
use bespoke_plugin_api::{CallCx, Kind, ToolCall, serde_json::json};
use expect_test::expect;

use crate::kit::{get, host, redirecting, to};

/// The one public server of these tests.
const PUBLIC: &str = "93.184.216.34:80";

fn names(server: std::net::SocketAddr) -> Names {
    Names::new()
        .public("good.test", server)
        .public("sub.wild.test", server)
        .public("evil.test", server)
        .public("good.test.evil.test", server)
        .public("evilgood.test", server)
        .public("wild.test", server)
        .public("evilwild.test", server)
        .public("sub.wild.test.evil.test", server)
        .public("xn--gd-fkaa.test", server)
        .name("localhost", &["127.0.0.1", "::1"])
        .name("loop.wild.test", &["127.0.0.1"])
        .name("loop6.wild.test", &["::1"])
        .name("mapped.wild.test", &["::ffff:127.0.0.1"])
        .name("ten.wild.test", &["10.0.0.7"])
        .name("home.wild.test", &["192.168.1.1"])
        .name("carrier.wild.test", &["100.64.0.1"])
        .name("link.wild.test", &["169.254.1.1"])
        .name("ula.wild.test", &["fd12::1"])
        .name("nat64.wild.test", &["64:ff9b::7f00:1"])
        .name("sixtofour.wild.test", &["2002:7f00:1::"])
        .name("zero.wild.test", &["0.0.0.0"])
        .name("many.wild.test", &["224.0.0.1"])
        .name("metadata.google.internal", &["169.254.169.254"])
        .name("cloud.wild.test", &["169.254.169.254"])
        .name("cloud6.wild.test", &["fd00:ec2::254"])
        .name("mixed.wild.test", &["93.184.216.34", "127.0.0.1"])
        .name("rebind.wild.test", &["93.184.216.34"])
        .name("rebind.wild.test", &["127.0.0.1"])
}

/// With `*`: what no list of names keeps out, addresses must.
#[tokio::test]
async fn any_host_does_not_mean_any_address() {
    let server = redirecting().await;
    let names = names(server.address());
    let host = host("allow = [\"*\", \"*.wild.test:*\"]", &names).await;
    let addresses = [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://127.000.000.001/",
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://017700000001/",
        "http://0177.0.0.1/",
        "http://127.0.0.1./",
        "http://①②⑦.⓪.⓪.①/",
        "http://[::1]/",
        "http://[0:0:0:0:0:0:0:1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://0.0.0.0/",
        "http://0/",
        "http://[::]/",
        "http://localhost/",
        "http://localhost./",
        "http://LOCALHOST/",
        "http://%6cocalhost/",
        "http://ⓛocalhost/",
        "http://10.0.0.1/",
        "http://172.16.0.1/",
        "http://172.31.255.254/",
        "http://192.168.0.1/",
        "http://192.168.257/",
        "http://[fc00::1]/",
        "http://[fe80::1]/",
        "http://169.254.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[fd00:ec2::254]/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "http://100.64.0.1/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://[ff02::1]/",
        "http://[2001::1]/",
        "http://198.18.0.1/",
        "http://203.0.113.1/",
        // Names that lead there.
        "http://loop.wild.test/",
        "http://loop.wild.test:8080/",
        "http://loop6.wild.test/",
        "http://mapped.wild.test/",
        "http://ten.wild.test/",
        "http://home.wild.test/",
        "http://carrier.wild.test/",
        "http://link.wild.test/",
        "http://ula.wild.test/",
        "http://nat64.wild.test/",
        "http://sixtofour.wild.test/",
        "http://zero.wild.test/",
        "http://many.wild.test/",
        "http://cloud.wild.test/",
        "http://cloud6.wild.test/",
        "http://mixed.wild.test/",
    ];
    let mut refused = String::new();
    for address in addresses {
        refused += &reason(address, &get(&host, address).await);
        let redirected = get(&host, &to("good.test", address)).await;
        if address.is_ascii() {
            assert!(redirected.starts_with("Not fetched: http://good.test/to/"), "{address}: {redirected}");
        }
        assert!(!redirected.contains("reached"), "{address}: {redirected}");
    }
    assert!(addresses.len() >= 40);
    expect![[r#"
        http://127.0.0.1/
            plugin `fetch` may not send requests to 127.0.0.1: it is a loopback address | The user can allow it: add "127.0.0.1" to plugins.fetch.allow_private
        http://127.1/
            plugin `fetch` may not send requests to 127.0.0.1: it is a loopback address | The user can allow it: add "127.0.0.1" to plugins.fetch.allow_private
        http://127.000.000.001/
            plugin `fetch` may not send requests to 127.0.0.1: it is a loopback address | The user can allow it: add "127.0.0.1" to plugins.fetch.allow_private
        http://0x7f.1/
            plugin `fetch` may not send requests to 127.0.0.1: it is a loopback address | The user can allow it: add "127.0.0.1" to plugins.fetch.allow_private
        http://0x7f000001/
            plugin `fetch` may not send requests to 127.0.0.1: it is a loopback address | The user can allow it: add "127.0.0.1" to plugins.fetch.allow_private
        http://2130706433/
            plugin `fetch` may not send requests to 127.0.0.1: it is a loopback address | The user can allow it: add "127.0.0.1" to plugins.fetch.allow_private
        http://017700000001/
            plugin `fetch` may not send requests to 127.0.0.1: it is a loopback address | The user can allow it: add "127.0.0.1" to plugins.fetch.allow_private
        http://0177.0.0.1/
            plugin `fetch` may not send requests to 127.0.0.1: it is a loopback address | The user can allow it: add "127.0.0.1" to plugins.fetch.allow_private
        http://127.0.0.1./
            plugin `fetch` may not send requests to 127.0.0.1: it is a loopback address | The user can allow it: add "127.0.0.1" to plugins.fetch.allow_private
        http://①②⑦.⓪.⓪.①/
            plugin `fetch` may not send requests to 127.0.0.1: it is a loopback address | The user can allow it: add "127.0.0.1" to plugins.fetch.allow_private
        http://[::1]/
            plugin `fetch` may not send requests to [::1]: it is a loopback address | The user can allow it: add "[::1]" to plugins.fetch.allow_private
        http://[0:0:0:0:0:0:0:1]/
            plugin `fetch` may not send requests to [::1]: it is a loopback address | The user can allow it: add "[::1]" to plugins.fetch.allow_private
        http://[::ffff:127.0.0.1]/
            plugin `fetch` may not send requests to 127.0.0.1: it is a loopback address | The user can allow it: add "127.0.0.1" to plugins.fetch.allow_private
        http://[::ffff:7f00:1]/
            plugin `fetch` may not send requests to 127.0.0.1: it is a loopback address | The user can allow it: add "127.0.0.1" to plugins.fetch.allow_private
        http://[::127.0.0.1]/
            plugin `fetch` may not send requests to [::7f00:1]: it is a loopback address | The user can allow it: add "[::7f00:1]" to plugins.fetch.allow_private
        http://[64:ff9b::7f00:1]/
            plugin `fetch` may not send requests to [64:ff9b::7f00:1]: it is a loopback address | The user can allow it: add "[64:ff9b::7f00:1]" to plugins.fetch.allow_private
        http://[2002:7f00:1::]/
            plugin `fetch` may not send requests to [2002:7f00:1::]: it is a loopback address | The user can allow it: add "[2002:7f00:1::]" to plugins.fetch.allow_private
        http://0.0.0.0/
            plugin `fetch` may not send requests to 0.0.0.0: it is an unspecified address
        http://0/
            plugin `fetch` may not send requests to 0.0.0.0: it is an unspecified address
        http://[::]/
            plugin `fetch` may not send requests to [::]: it is an unspecified address
        http://localhost/
            plugin `fetch` may not send requests to localhost: it leads to 127.0.0.1, a loopback address | The user can allow it: add "localhost" to plugins.fetch.allow_private
        http://localhost./
            plugin `fetch` may not send requests to localhost: it leads to 127.0.0.1, a loopback address | The user can allow it: add "localhost" to plugins.fetch.allow_private
        http://LOCALHOST/
            plugin `fetch` may not send requests to localhost: it leads to 127.0.0.1, a loopback address | The user can allow it: add "localhost" to plugins.fetch.allow_private
        http://%6cocalhost/
            plugin `fetch` may not send requests to localhost: it leads to 127.0.0.1, a loopback address | The user can allow it: add "localhost" to plugins.fetch.allow_private
        http://ⓛocalhost/
            plugin `fetch` may not send requests to localhost: it leads to 127.0.0.1, a loopback address | The user can allow it: add "localhost" to plugins.fetch.allow_private
        http://10.0.0.1/
            plugin `fetch` may not send requests to 10.0.0.1: it is a private address | The user can allow it: add "10.0.0.1" to plugins.fetch.allow_private
        http://172.16.0.1/
            plugin `fetch` may not send requests to 172.16.0.1: it is a private address | The user can allow it: add "172.16.0.1" to plugins.fetch.allow_private
        http://172.31.255.254/
            plugin `fetch` may not send requests to 172.31.255.254: it is a private address | The user can allow it: add "172.31.255.254" to plugins.fetch.allow_private
        http://192.168.0.1/
            plugin `fetch` may not send requests to 192.168.0.1: it is a private address | The user can allow it: add "192.168.0.1" to plugins.fetch.allow_private
        http://192.168.257/
            plugin `fetch` may not send requests to 192.168.1.1: it is a private address | The user can allow it: add "192.168.1.1" to plugins.fetch.allow_private
        http://[fc00::1]/
            plugin `fetch` may not send requests to [fc00::1]: it is a private address | The user can allow it: add "[fc00::1]" to plugins.fetch.allow_private
        http://[fe80::1]/
            plugin `fetch` may not send requests to [fe80::1]: it is a link-local address | The user can allow it: add "[fe80::1]" to plugins.fetch.allow_private
        http://169.254.0.1/
            plugin `fetch` may not send requests to 169.254.0.1: it is a link-local address | The user can allow it: add "169.254.0.1" to plugins.fetch.allow_private
        http://169.254.169.254/latest/meta-data/
            plugin `fetch` may not send requests to 169.254.169.254: it is where a cloud machine gets its credentials
        http://2852039166/
            plugin `fetch` may not send requests to 169.254.169.254: it is where a cloud machine gets its credentials
        http://0xa9fea9fe/
            plugin `fetch` may not send requests to 169.254.169.254: it is where a cloud machine gets its credentials
        http://[::ffff:a9fe:a9fe]/
            plugin `fetch` may not send requests to 169.254.169.254: it is where a cloud machine gets its credentials
        http://[fd00:ec2::254]/
            plugin `fetch` may not send requests to [fd00:ec2::254]: it is where a cloud machine gets its credentials
        http://metadata.google.internal/computeMetadata/v1/
            plugin `fetch` may not send requests to metadata.google.internal: it leads to 169.254.169.254, where a cloud machine gets its credentials
        http://100.64.0.1/
            plugin `fetch` may not send requests to 100.64.0.1: it is a shared address of a carrier's network | The user can allow it: add "100.64.0.1" to plugins.fetch.allow_private
        http://224.0.0.1/
            plugin `fetch` may not send requests to 224.0.0.1: it is a multicast address
        http://255.255.255.255/
            plugin `fetch` may not send requests to 255.255.255.255: it is the broadcast address
        http://[ff02::1]/
            plugin `fetch` may not send requests to [ff02::1]: it is a multicast address
        http://[2001::1]/
            plugin `fetch` may not send requests to [2001::1]: it is a tunnelled address | The user can allow it: add "[2001::1]" to plugins.fetch.allow_private
        http://198.18.0.1/
            plugin `fetch` may not send requests to 198.18.0.1: it is an address for benchmarks | The user can allow it: add "198.18.0.1" to plugins.fetch.allow_private
        http://203.0.113.1/
            plugin `fetch` may not send requests to 203.0.113.1: it is an address for documentation | The user can allow it: add "203.0.113.1" to plugins.fetch.allow_private
        http://loop.wild.test/
            plugin `fetch` may not send requests to loop.wild.test: it leads to 127.0.0.1, a loopback address | The user can allow it: add "loop.wild.test" to plugins.fetch.allow_private
        http://loop.wild.test:8080/
            plugin `fetch` may not send requests to loop.wild.test:8080: it leads to 127.0.0.1, a loopback address | The user can allow it: add "loop.wild.test:8080" to plugins.fetch.allow_private
        http://loop6.wild.test/
            plugin `fetch` may not send requests to loop6.wild.test: it leads to ::1, a loopback address | The user can allow it: add "loop6.wild.test" to plugins.fetch.allow_private
        http://mapped.wild.test/
            plugin `fetch` may not send requests to mapped.wild.test: it leads to 127.0.0.1, a loopback address | The user can allow it: add "mapped.wild.test" to plugins.fetch.allow_private
        http://ten.wild.test/
            plugin `fetch` may not send requests to ten.wild.test: it leads to 10.0.0.7, a private address | The user can allow it: add "ten.wild.test" to plugins.fetch.allow_private
        http://home.wild.test/
            plugin `fetch` may not send requests to home.wild.test: it leads to 192.168.1.1, a private address | The user can allow it: add "home.wild.test" to plugins.fetch.allow_private
        http://carrier.wild.test/
            plugin `fetch` may not send requests to carrier.wild.test: it leads to 100.64.0.1, a shared address of a carrier's network | The user can allow it: add "carrier.wild.test" to plugins.fetch.allow_private
        http://link.wild.test/
            plugin `fetch` may not send requests to link.wild.test: it leads to 169.254.1.1, a link-local address | The user can allow it: add "169.254.1.1" to plugins.fetch.allow_private
        http://ula.wild.test/
            plugin `fetch` may not send requests to ula.wild.test: it leads to fd12::1, a private address | The user can allow it: add "ula.wild.test" to plugins.fetch.allow_private
        http://nat64.wild.test/
            plugin `fetch` may not send requests to nat64.wild.test: it leads to 64:ff9b::7f00:1, a loopback address | The user can allow it: add "nat64.wild.test" to plugins.fetch.allow_private
        http://sixtofour.wild.test/
            plugin `fetch` may not send requests to sixtofour.wild.test: it leads to 2002:7f00:1::, a loopback address | The user can allow it: add "sixtofour.wild.test" to plugins.fetch.allow_private
        http://zero.wild.test/
            plugin `fetch` may not send requests to zero.wild.test: it leads to 0.0.0.0, an unspecified address
        http://many.wild.test/
            plugin `fetch` may not send requests to many.wild.test: it leads to 224.0.0.1, a multicast address
        http://cloud.wild.test/
            plugin `fetch` may not send requests to cloud.wild.test: it leads to 169.254.169.254, where a cloud machine gets its credentials
        http://cloud6.wild.test/
            plugin `fetch` may not send requests to cloud6.wild.test: it leads to fd00:ec2::254, where a cloud machine gets its credentials
        http://mixed.wild.test/
            plugin `fetch` may not send requests to mixed.wild.test: it leads to 127.0.0.1, a loopback address | The user can allow it: add "mixed.wild.test" to plugins.fetch.allow_private
    "#]].assert_eq(&refused);
    assert!(names.connected().iter().all(|to| to.to_string() == PUBLIC), "{:?}", names.connected());
}

/// The name was public when it was asked for the first time.
#[tokio::test]
async fn a_name_that_changes_its_address() {
    let server = redirecting().await;
    let names = names(server.address());
    let host = host("allow = [\"*\"]", &names).await;
    assert!(get(&host, "http://rebind.wild.test/").await.contains("reached"));
    let again = get(&host, &to("good.test", "http://rebind.wild.test/")).await;
    expect![[r#"
        again
            http://good.test/… redirects to http://rebind.wild.test/: plugin `fetch` may not send requests to rebind.wild.test: it leads to 127.0.0.1, a loopback address
    "#]].assert_eq(&reason("again", &again));
    assert!(names.connected().iter().all(|to| to.to_string() == PUBLIC), "{:?}", names.connected());
}

/// With two names: everything else, however it is spelled.
#[tokio::test]
async fn hosts_that_are_not_listed() {
    let server = redirecting().await;
    let names = names(server.address());
    let host = host("allow = [\"good.test\", \"*.wild.test\"]", &names).await;
    let long = format!("http://good.test/{}", "a".repeat(5000));
    let attempts = [
        "http://evil.test/",
        "http://good.test.evil.test/",
        "http://evilgood.test/",
        "http://wild.test/",
        "http://evilwild.test/",
        "http://sub.wild.test.evil.test/",
        "http://*.wild.test/",
        "http://.wild.test/",
        "http://good.test:8080/",
        "http://good.test:0/",
        "http://good.test:99999/",
        "http://93.184.216.34/",
        "http://gооd.test/",
        "http://gööd.test/",
        "http://good。test。evil。test/",
        "http://good.test@evil.test/",
        "http://good.test:80@evil.test/",
        "http://good.test%40evil.test/",
        "http://user:pw@good.test/",
        "http://@evil.test/",
        "http:good.test@evil.test",
        "http:/evil.test/",
        "http:///evil.test/",
        "http://good.test\\@evil.test/",
        "http:\\\\evil.test\\",
        "http://evil.test\\.good.test/",
        "http://evil.test#@good.test/",
        "http://evil.test?@good.test/",
        "http://evil.test#.good.test",
        "http://evil.test/http://good.test/",
        "http://good.test\r\nHost: evil.test/",
        "http://good.test/\nx",
        "http://go\tod.test/",
        "http://good.test/ HTTP/1.1",
        "http://good\u{0}.test/",
        "http://good.test%00.evil.test/",
        "//evil.test/",
        "evil.test",
        "/etc/passwd",
        "",
        "http://",
        "http://%/",
        "http://[::1",
        "https://",
        "file:///etc/passwd",
        "file://good.test/etc/passwd",
        "gopher://good.test:70/_x",
        "ftp://good.test/",
        "data:text/html,hi",
        "javascript:alert(1)",
        "about:blank",
        "ws://good.test/",
        "unix:/var/run/docker.sock",
        "view-source:http://good.test/",
        "blob:http://good.test/x",
        "jar:http://good.test!/x",
        &long,
    ];
    let mut refused = String::new();
    for attempt in attempts {
        refused += &reason(attempt, &get(&host, attempt).await);
    }
    assert!(attempts.len() >= 40);
    expect![[r#"
        http://evil.test/
            plugin `fetch` may not send requests to evil.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it | The user can allow it: add "evil.test" to plugins.fetch.allow
        http://good.test.evil.test/
            plugin `fetch` may not send requests to good.test.evil.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it | The user can allow it: add "good.test.evil.test" to plugins.fetch.allow
        http://evilgood.test/
            plugin `fetch` may not send requests to evilgood.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it | The user can allow it: add "evilgood.test" to plugins.fetch.allow
        http://wild.test/
            plugin `fetch` may not send requests to wild.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it | The user can allow it: add "wild.test" to plugins.fetch.allow
        http://evilwild.test/
            plugin `fetch` may not send requests to evilwild.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it | The user can allow it: add "evilwild.test" to plugins.fetch.allow
        http://sub.wild.test.evil.test/
            plugin `fetch` may not send requests to sub.wild.test.evil.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it | The user can allow it: add "sub.wild.test.evil.test" to plugins.fetch.allow
        http://*.wild.test/
            *.wild.test could not be reached: its name is not known: no such name in this test
        http://.wild.test/
            plugin `fetch` may not send requests to .wild.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it | The user can allow it: add ".wild.test" to plugins.fetch.allow
        http://good.test:8080/
            plugin `fetch` may not send requests to good.test:8080: plugins.fetch.allow and plugins.fetch.allow_private do not list it for port 8080 | The user can allow it: add "good.test:8080" to plugins.fetch.allow
        http://good.test:0/
            the URL of the request names port 0, which no server has
        http://good.test:99999/
            the URL is no URL: invalid port number.
        http://93.184.216.34/
            plugin `fetch` may not send requests to 93.184.216.34: plugins.fetch.allow and plugins.fetch.allow_private do not list it | The user can allow it: add "93.184.216.34" to plugins.fetch.allow
        http://gооd.test/
            plugin `fetch` may not send requests to xn--gd-fmca.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it | The user can allow it: add "xn--gd-fmca.test" to plugins.fetch.allow
        http://gööd.test/
            plugin `fetch` may not send requests to xn--gd-fkaa.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it | The user can allow it: add "xn--gd-fkaa.test" to plugins.fetch.allow
        http://good。test。evil。test/
            plugin `fetch` may not send requests to good.test.evil.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it | The user can allow it: add "good.test.evil.test" to plugins.fetch.allow
        http://good.test@evil.test/
            the URL holds a user name, which is not sent.
        http://good.test:80@evil.test/
            the URL holds a user name, which is not sent.
        http://good.test%40evil.test/
            the URL is no URL: invalid international domain name.
        http://user:pw@good.test/
            the URL holds a user name, which is not sent.
        http://@evil.test/
            the URL holds a user name, which is not sent.
        http:good.test@evil.test
            the URL holds a user name, which is not sent.
        http:/evil.test/
            plugin `fetch` may not send requests to evil.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it | The user can allow it: add "evil.test" to plugins.fetch.allow
        http:///evil.test/
            plugin `fetch` may not send requests to evil.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it | The user can allow it: add "evil.test" to plugins.fetch.allow
        http://good.test\\@evil.test/
            the URL holds a backslash, which some read as a slash; write %5C.
        http:\\\\evil.test\\
            the URL holds a backslash, which some read as a slash; write %5C.
        http://evil.test\\.good.test/
            the URL holds a backslash, which some read as a slash; write %5C.
        http://evil.test#@good.test/
            plugin `fetch` may not send requests to evil.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it | The user can allow it: add "evil.test" to plugins.fetch.allow
        http://evil.test?@good.test/
            plugin `fetch` may not send requests to evil.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it | The user can allow it: add "evil.test" to plugins.fetch.allow
        http://evil.test#.good.test
            plugin `fetch` may not send requests to evil.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it | The user can allow it: add "evil.test" to plugins.fetch.allow
        http://evil.test/http://good.test/
            plugin `fetch` may not send requests to evil.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it | The user can allow it: add "evil.test" to plugins.fetch.allow
        http://good.test\r\nHost: evil.test/
            the URL holds a space or a control character; percent-encode it.
        http://good.test/\nx
            the URL holds a space or a control character; percent-encode it.
        http://go\tod.test/
            the URL holds a space or a control character; percent-encode it.
        http://good.test/ HTTP/1.1
            the URL holds a space or a control character; percent-encode it.
        http://good\0.test/
            the URL holds a space or a control character; percent-encode it.
        http://good.test%00.evil.test/
            the URL is no URL: invalid international domain name.
        //evil.test/
            the URL is not absolute; begin with https://.
        evil.test
            the URL is not absolute; begin with https://.
        /etc/passwd
            the URL is not absolute; begin with https://.

            the URL is not absolute; begin with https://.
        http://
            the URL is no URL: empty host.
        http://%/
            the URL is no URL: invalid international domain name.
        http://[::1
            the URL is no URL: invalid IPv6 address.
        https://
            the URL is no URL: empty host.
        file:///etc/passwd
            the URL has a scheme other than http and https.
        file://good.test/etc/passwd
            the URL has a scheme other than http and https.
        gopher://good.test:70/_x
            the URL has a scheme other than http and https.
        ftp://good.test/
            the URL has a scheme other than http and https.
        data:text/html,hi
            the URL has a scheme other than http and https.
        javascript:alert(1)
            the URL has a scheme other than http and https.
        about:blank
            the URL has a scheme other than http and https.
        ws://good.test/
            the URL has a scheme other than http and https.
        unix:/var/run/docker.sock
            the URL has a scheme other than http and https.
        view-source:http://good.test/
            the URL has a scheme other than http and https.
        blob:http://good.test/x
            the URL has a scheme other than http and https.
        jar:http://good.test!/x
            the URL has a scheme other than http and https.
        http://good.test/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
            the URL has 5017 bytes; at most 4096 are sent.
    "#]].assert_eq(&refused);
    assert_eq!(names.connected(), []);
}

/// The same by a server that was allowed.
#[tokio::test]
async fn redirects_to_what_is_not_allowed() {
    let server = redirecting().await;
    let names = names(server.address());
    let host = host("allow = [\"good.test\", \"*.wild.test\"]\nmax_redirects = 3", &names).await;
    let chain = to("good.test", &to("sub.wild.test", "http://evil.test/"));
    let long_chain = (0..5).fold("http://good.test/".to_owned(), |next, n| to(["good.test", "sub.wild.test"][n % 2], &next));
    let attempts = [
        "http://evil.test/",
        "//evil.test/",
        "///evil.test/",
        "/\\evil.test/",
        "\\\\evil.test/",
        "http:\\\\evil.test",
        "http://good.test@evil.test/",
        "//good.test@evil.test/",
        "http://user@good.test/",
        "//:@good.test/",
        "http://good.test:8080/",
        "https://evil.test/",
        "file:///etc/passwd",
        "gopher://good.test/_",
        "ftp://good.test/",
        "data:text/plain,reached",
        "javascript:alert(1)",
        "http://loop.wild.test/",
        "http://127.1/",
        "//2130706433/",
        "http://[::1]/",
        "http://169.254.169.254/",
        "http://metadata.google.internal/",
        "http://mixed.wild.test/",
        "http://good.test.evil.test/",
        "http://a b/",
        "http://%00/",
        "http://",
        &chain,
        &long_chain,
    ];
    let mut refused = String::new();
    for location in attempts {
        let told = get(&host, &to("good.test", location)).await;
        assert!(!told.contains("reached\n"), "{location}: {told}");
        refused += &reason(location, &told);
    }
    expect![[r#"
        http://evil.test/
            http://good.test/… redirects to http://evil.test/: plugin `fetch` may not send requests to evil.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it
        //evil.test/
            http://good.test/… redirects to http://evil.test/: plugin `fetch` may not send requests to evil.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it
        ///evil.test/
            http://good.test/… redirects to an address that is no URL: empty host.
        /\\evil.test/
            http://good.test/… redirects to an address that holds a backslash, which some read as a slash; write %5C.
        \\\\evil.test/
            http://good.test/… redirects to an address that holds a backslash, which some read as a slash; write %5C.
        http:\\\\evil.test
            http://good.test/… redirects to an address that holds a backslash, which some read as a slash; write %5C.
        http://good.test@evil.test/
            http://good.test/… redirects to an address that holds a user name, which is not sent.
        //good.test@evil.test/
            http://good.test/… redirects to an address that holds a user name, which is not sent.
        http://user@good.test/
            http://good.test/… redirects to an address that holds a user name, which is not sent.
        //:@good.test/
            http://good.test/… redirects to an address that holds a user name, which is not sent.
        http://good.test:8080/
            http://good.test/… redirects to http://good.test:8080/: plugin `fetch` may not send requests to good.test:8080: plugins.fetch.allow and plugins.fetch.allow_private do not list it for port 8080
        https://evil.test/
            http://good.test/… redirects to https://evil.test/: plugin `fetch` may not send requests to evil.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it
        file:///etc/passwd
            http://good.test/… redirects to an address that has a scheme other than http and https.
        gopher://good.test/_
            http://good.test/… redirects to an address that has a scheme other than http and https.
        ftp://good.test/
            http://good.test/… redirects to an address that has a scheme other than http and https.
        data:text/plain,reached
            http://good.test/… redirects to an address that has a scheme other than http and https.
        javascript:alert(1)
            http://good.test/… redirects to an address that has a scheme other than http and https.
        http://loop.wild.test/
            http://good.test/… redirects to http://loop.wild.test/: plugin `fetch` may not send requests to loop.wild.test: it leads to 127.0.0.1, a loopback address
        http://127.1/
            http://good.test/… redirects to http://127.0.0.1/: plugin `fetch` may not send requests to 127.0.0.1: plugins.fetch.allow and plugins.fetch.allow_private do not list it
        //2130706433/
            http://good.test/… redirects to http://127.0.0.1/: plugin `fetch` may not send requests to 127.0.0.1: plugins.fetch.allow and plugins.fetch.allow_private do not list it
        http://[::1]/
            http://good.test/… redirects to http://[::1]/: plugin `fetch` may not send requests to [::1]: plugins.fetch.allow and plugins.fetch.allow_private do not list it
        http://169.254.169.254/
            http://good.test/… redirects to http://169.254.169.254/: plugin `fetch` may not send requests to 169.254.169.254: it is where a cloud machine gets its credentials
        http://metadata.google.internal/
            http://good.test/… redirects to http://metadata.google.internal/: plugin `fetch` may not send requests to metadata.google.internal: plugins.fetch.allow and plugins.fetch.allow_private do not list it
        http://mixed.wild.test/
            http://good.test/… redirects to http://mixed.wild.test/: plugin `fetch` may not send requests to mixed.wild.test: it leads to 127.0.0.1, a loopback address
        http://good.test.evil.test/
            http://good.test/… redirects to http://good.test.evil.test/: plugin `fetch` may not send requests to good.test.evil.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it
        http://a b/
            http://good.test/… redirects to an address that holds a space or a control character; percent-encode it.
        http://%00/
            http://good.test/… redirects to an address that is no URL: invalid international domain name.
        http://
            http://good.test/… redirects to an address that is no URL: empty host.
        http://good.test/to/687474703a2f2f7375622e77696c642e74657374
            http://sub.wild.test/… redirects to http://evil.test/: plugin `fetch` may not send requests to evil.test: plugins.fetch.allow and plugins.fetch.allow_private do not list it
        http://good.test/to/687474703a2f2f7375622e77696c642e74657374
            it redirects more than 3 times (`plugins.fetch.max_redirects`).
    "#]].assert_eq(&refused);
    assert!(names.connected().iter().all(|to| to.to_string() == PUBLIC), "{:?}", names.connected());
}

#[tokio::test]
async fn what_is_allowed_is_fetched() {
    let server = redirecting().await;
    let port = server.address().port();
    let names = names(server.address()).name("nas.test", &["127.0.0.1"]);
    let table =
        format!("allow = [\"good.test\", \"*.wild.test\", \"bücher.test\"]\nallow_private = [\"127.0.0.1:{port}\", \"nas.test:{port}\"]");
    let host = host(&table, &names.clone().public("xn--bcher-kva.test", server.address())).await;
    let allowed = [
        "http://good.test/",
        "http://GOOD.test",
        "http://good.test./",
        " http://good.test/ ",
        "http://good.test:80/a?b=c#d",
        "http:good.test",
        "http:/good.test",
        "http://g%6Fod.test/",
        "http://sub.wild.test/x",
        "http://bücher.test/",
        "http://xn--bcher-kva.test/",
        "http://ｇood.test/",
        &format!("http://127.0.0.1:{port}/"),
        &format!("http://0x7f.1:{port}/"),
        &format!("http://nas.test:{port}/"),
        &to("good.test", "/next"),
        &to("good.test", "../next?x"),
        &to("good.test", "//sub.wild.test/"),
        &to("good.test", "http://sub.wild.test/#x"),
        &to("good.test", &to("sub.wild.test", &to("good.test", "/end"))),
        &to("good.test", &format!("http://nas.test:{port}/")),
    ];
    for url in allowed {
        let told = get(&host, url).await;
        assert!(told.contains("reached\n"), "{url}: {told}");
    }
    assert_eq!(server.accepted(), allowed.len() + 8);
}

/// Nothing is allowed before the user said so: until then no model is offered the tool, and from then on it is, at once.
#[tokio::test]
async fn the_tool_comes_and_goes_with_the_lists() {
    let server = redirecting().await;
    let names = names(server.address());
    let host = host("", &names).await;
    let offered = || host.registry().names(Kind::Tool);
    let row = host.rows().into_iter().find(|row| row.id == "fetch").unwrap();
    assert!(
        offered().is_empty() && row.reason.as_deref().is_some_and(|why| why.contains("bespoke config set plugins.fetch.allow")),
        "{row:?}"
    );
    let table = |keys: &str| Config::parse("bespoke.toml", &format!("[plugins.fetch]\n{keys}\n")).unwrap();
    for (keys, name) in
        [("allow = [\"good.test\"]", Some("fetch")), ("max_chars = 500", None), ("allow_private = [\"good.test\"]", Some("fetch"))]
    {
        let told = host.reload(table(keys)).await;
        assert_eq!(offered().first().map(String::as_str), name, "{keys}: {told:?}");
    }
    host.reload(table("allow = [\"good.test\"]")).await;
    assert!(get(&host, "http://good.test/").await.contains("reached\n"));
    host.reload(table("")).await;
    assert!(host.call_tool(&CallCx::new(), ToolCall::new("1", "fetch", json!({ "url": "http://good.test/" }))).await.is_err());
    assert_eq!(server.accepted(), 1);
}

/// One line for one attempt.
fn reason(attempt: &str, told: &str) -> String {
    assert!(told.starts_with("Not fetched: "), "{attempt}: {told}");
    let short: String = attempt.chars().take(60).collect();
    let mut told = told.trim_start_matches("Not fetched: ").replace('\n', " | ");
    // The address that redirects says nothing here.
    while let Some(at) = told.find("/to/") {
        let end = told[at + 4..].find(|c: char| !(c.is_ascii_hexdigit() || c == '…')).map_or(told.len(), |n| at + 4 + n);
        told.replace_range(at..end, "/…");
    }
    format!("{}\n    {told}\n", short.escape_debug())
}
