//! Where a request may not go: every spelling of every address, names that lead there, names that change.

use bespoke_host::{HttpAllowed, HttpClient};
use bespoke_http::{
    Client,
    testing::{Names, Server},
};
use bespoke_plugin_api::{HttpRequest, Result};
use expect_test::{Expect, expect};

use crate::kit::{told, within};

/// What a client says about each URL under a list, without the help; nothing is ever connected to but `network`'s routes.
async fn table(network: &Names, allowed: &HttpAllowed, urls: &[&str], expected: Expect) {
    let client = Client::builder().network(network.clone()).build();
    let mut table = String::new();
    for url in urls {
        let error = match within(client.send(allowed.clone(), HttpRequest::new("GET", *url))).await {
            Ok(reply) => panic!("{url}: {reply:?}"),
            Err(error) => error,
        };
        let said = format!("{} {}", error.kind(), error.message());
        assert!(!said.contains("s3cret"), "{said}");
        table += &format!(
            "{}\n    {}\n",
            url.escape_debug(),
            said.trim_start_matches("PERMISSION_DENIED plugin `test` may not send requests to ")
        );
    }
    expected.assert_eq(&table);
    assert_eq!(network.connected(), [], "nothing was connected to");
}

#[tokio::test]
async fn addresses_in_every_spelling() {
    // Everything public, everything by name, on every port.
    let allowed = HttpAllowed::new("test").host("*:*");
    let network = Names::new();
    let urls = [
        // loopback
        "http://127.0.0.1/",
        "http://127.1/",
        "http://127.0.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0X7F.1/",
        "http://0177.0.0.1/",
        "http://017700000001/",
        "http://127.0.0.1./",
        "http://127.255.255.254:8080/",
        "http://%31%32%37.0.0.1/",
        "http://①②⑦.⓪.⓪.①/",
        "http://１２７．０．０．１/",
        "http://127。0。0。1/",
        "HTTP://127.0.0.1/",
        "https://127.0.0.1/s3cret?s3cret#s3cret",
        "http:////127.0.0.1/",
        "http://[::1]/",
        "http://[0:0:0:0:0:0:0:1]/",
        "http://[0000::0001]:8080/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::FFFF:7F00:0001]/",
        "http://[::127.0.0.1]/",
        "http://[::ffff:0:127.0.0.1]/",
        "http://[64:ff9b::127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        // private
        "http://10.0.0.1/",
        "http://10.255.255.255/",
        "http://172.16.0.1/",
        "http://172.31.255.255/",
        "http://192.168.0.1/",
        "http://192.168.257/",
        "http://[::ffff:10.0.0.1]/",
        "http://[64:ff9b::a00:1]/",
        "http://[2002:c0a8:101::1]/",
        "http://[fc00::1]/",
        "http://[fdff:ffff::1]/",
        "http://[fec0::1]/",
        "http://[fe80::1]/",
        // carriers and clouds
        "http://100.64.0.1/",
        "http://100.127.255.255/",
        "http://100.100.100.200/latest/meta-data/",
        "http://169.254.169.254/latest/meta-data/",
        "http://0xa9fea9fe/",
        "http://2852039166/",
        "http://0251.0376.0251.0376/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[2002:a9fe:a9fe::]/",
        "http://169.254.170.2/v2/credentials",
        "http://168.63.129.16/",
        "http://[fd00:ec2::254]/",
        "http://[fd20:ce::254]/",
        "http://169.254.0.1/",
        // what is no server
        "http://0.0.0.0/",
        "http://0/",
        "http://0x0/",
        "http://0.1.2.3/",
        "http://[::]/",
        "http://[::ffff:0.0.0.0]/",
        "http://224.0.0.1/",
        "http://239.255.255.250:1900/",
        "http://255.255.255.255/",
        "http://[ff02::1]/",
        // what nobody has
        "http://192.0.2.1/",
        "http://198.51.100.1/",
        "http://203.0.113.1/",
        "http://198.18.0.1/",
        "http://198.19.255.255/",
        "http://192.0.0.8/",
        "http://192.88.99.1/",
        "http://240.0.0.1/",
        "http://[2001:db8::1]/",
        "http://[3fff::1]/",
        "http://[2001:2::1]/",
        "http://[2001::1]/",
        "http://[2001:10::1]/",
        "http://[100::1]/",
        "http://[64:ff9b:1::1]/",
        "http://[5f00::1]/",
        "http://[4000::1]/",
    ];
    table(
        &network,
        &allowed,
        &urls,
        expect![[r#"
        http://127.0.0.1/
            127.0.0.1: it is a loopback address
        http://127.1/
            127.0.0.1: it is a loopback address
        http://127.0.1/
            127.0.0.1: it is a loopback address
        http://2130706433/
            127.0.0.1: it is a loopback address
        http://0x7f000001/
            127.0.0.1: it is a loopback address
        http://0x7f.0.0.1/
            127.0.0.1: it is a loopback address
        http://0X7F.1/
            127.0.0.1: it is a loopback address
        http://0177.0.0.1/
            127.0.0.1: it is a loopback address
        http://017700000001/
            127.0.0.1: it is a loopback address
        http://127.0.0.1./
            127.0.0.1: it is a loopback address
        http://127.255.255.254:8080/
            127.255.255.254:8080: it is a loopback address
        http://%31%32%37.0.0.1/
            127.0.0.1: it is a loopback address
        http://①②⑦.⓪.⓪.①/
            127.0.0.1: it is a loopback address
        http://１２７．０．０．１/
            127.0.0.1: it is a loopback address
        http://127。0。0。1/
            127.0.0.1: it is a loopback address
        HTTP://127.0.0.1/
            127.0.0.1: it is a loopback address
        https://127.0.0.1/s3cret?s3cret#s3cret
            127.0.0.1: it is a loopback address
        http:////127.0.0.1/
            INVALID_PARAMS the URL of the request names no host
        http://[::1]/
            [::1]: it is a loopback address
        http://[0:0:0:0:0:0:0:1]/
            [::1]: it is a loopback address
        http://[0000::0001]:8080/
            [::1]:8080: it is a loopback address
        http://[::ffff:127.0.0.1]/
            127.0.0.1: it is a loopback address
        http://[::ffff:7f00:1]/
            127.0.0.1: it is a loopback address
        http://[::FFFF:7F00:0001]/
            127.0.0.1: it is a loopback address
        http://[::127.0.0.1]/
            [::7f00:1]: it is a loopback address
        http://[::ffff:0:127.0.0.1]/
            [::ffff:0:7f00:1]: it is a loopback address
        http://[64:ff9b::127.0.0.1]/
            [64:ff9b::7f00:1]: it is a loopback address
        http://[64:ff9b::7f00:1]/
            [64:ff9b::7f00:1]: it is a loopback address
        http://[2002:7f00:1::]/
            [2002:7f00:1::]: it is a loopback address
        http://10.0.0.1/
            10.0.0.1: it is a private address
        http://10.255.255.255/
            10.255.255.255: it is a private address
        http://172.16.0.1/
            172.16.0.1: it is a private address
        http://172.31.255.255/
            172.31.255.255: it is a private address
        http://192.168.0.1/
            192.168.0.1: it is a private address
        http://192.168.257/
            192.168.1.1: it is a private address
        http://[::ffff:10.0.0.1]/
            10.0.0.1: it is a private address
        http://[64:ff9b::a00:1]/
            [64:ff9b::a00:1]: it is a private address
        http://[2002:c0a8:101::1]/
            [2002:c0a8:101::1]: it is a private address
        http://[fc00::1]/
            [fc00::1]: it is a private address
        http://[fdff:ffff::1]/
            [fdff:ffff::1]: it is a private address
        http://[fec0::1]/
            [fec0::1]: it is a private address
        http://[fe80::1]/
            [fe80::1]: it is a link-local address
        http://100.64.0.1/
            100.64.0.1: it is a shared address of a carrier's network
        http://100.127.255.255/
            100.127.255.255: it is a shared address of a carrier's network
        http://100.100.100.200/latest/meta-data/
            100.100.100.200: it is where a cloud machine gets its credentials
        http://169.254.169.254/latest/meta-data/
            169.254.169.254: it is where a cloud machine gets its credentials
        http://0xa9fea9fe/
            169.254.169.254: it is where a cloud machine gets its credentials
        http://2852039166/
            169.254.169.254: it is where a cloud machine gets its credentials
        http://0251.0376.0251.0376/
            169.254.169.254: it is where a cloud machine gets its credentials
        http://[::ffff:169.254.169.254]/
            169.254.169.254: it is where a cloud machine gets its credentials
        http://[64:ff9b::a9fe:a9fe]/
            [64:ff9b::a9fe:a9fe]: it is where a cloud machine gets its credentials
        http://[2002:a9fe:a9fe::]/
            [2002:a9fe:a9fe::]: it is where a cloud machine gets its credentials
        http://169.254.170.2/v2/credentials
            169.254.170.2: it is where a cloud machine gets its credentials
        http://168.63.129.16/
            168.63.129.16: it is where a cloud machine gets its credentials
        http://[fd00:ec2::254]/
            [fd00:ec2::254]: it is where a cloud machine gets its credentials
        http://[fd20:ce::254]/
            [fd20:ce::254]: it is where a cloud machine gets its credentials
        http://169.254.0.1/
            169.254.0.1: it is a link-local address
        http://0.0.0.0/
            0.0.0.0: it is an unspecified address
        http://0/
            0.0.0.0: it is an unspecified address
        http://0x0/
            0.0.0.0: it is an unspecified address
        http://0.1.2.3/
            0.1.2.3: it is an unspecified address
        http://[::]/
            [::]: it is an unspecified address
        http://[::ffff:0.0.0.0]/
            0.0.0.0: it is an unspecified address
        http://224.0.0.1/
            224.0.0.1: it is a multicast address
        http://239.255.255.250:1900/
            239.255.255.250:1900: it is a multicast address
        http://255.255.255.255/
            255.255.255.255: it is the broadcast address
        http://[ff02::1]/
            [ff02::1]: it is a multicast address
        http://192.0.2.1/
            192.0.2.1: it is an address for documentation
        http://198.51.100.1/
            198.51.100.1: it is an address for documentation
        http://203.0.113.1/
            203.0.113.1: it is an address for documentation
        http://198.18.0.1/
            198.18.0.1: it is an address for benchmarks
        http://198.19.255.255/
            198.19.255.255: it is an address for benchmarks
        http://192.0.0.8/
            192.0.0.8: it is an address for protocols
        http://192.88.99.1/
            192.88.99.1: it is an address for protocols
        http://240.0.0.1/
            240.0.0.1: it is a reserved address
        http://[2001:db8::1]/
            [2001:db8::1]: it is an address for documentation
        http://[3fff::1]/
            [3fff::1]: it is an address for documentation
        http://[2001:2::1]/
            [2001:2::1]: it is an address for benchmarks
        http://[2001::1]/
            [2001::1]: it is a tunnelled address
        http://[2001:10::1]/
            [2001:10::1]: it is an address for protocols
        http://[100::1]/
            [100::1]: it is a reserved address
        http://[64:ff9b:1::1]/
            [64:ff9b:1::1]: it is a translated address
        http://[5f00::1]/
            [5f00::1]: it is a reserved address
        http://[4000::1]/
            [4000::1]: it is a reserved address
    "#]],
    )
    .await;
    assert!(network.looked_up().is_empty(), "an address is not looked up");
}

#[tokio::test]
async fn urls_that_are_none_or_hide_something() {
    let allowed = HttpAllowed::new("test").host("*:*").private("*:*").private("0.0.0.0/0:*").private("[::/0]:*");
    let long = format!("http://a.test/{}", "s3cret".repeat(4000));
    let label = format!("http://{}.test/", "a".repeat(300));
    let urls = [
        "",
        "s3cret",
        "/s3cret",
        "//a.test/s3cret",
        "a.test/s3cret",
        "http:a.test/s3cret",
        "http:/a.test/s3cret",
        "file:///etc/s3cret",
        "ftp://a.test/s3cret",
        "gopher://a.test/s3cret",
        "ws://a.test/s3cret",
        "unix://a.test/s3cret",
        "javascript://a.test/s3cret",
        "http://",
        "http:///s3cret",
        "http://:80/s3cret",
        "http://?s3cret",
        "http://./s3cret",
        "http://user:s3cret@a.test/",
        "http://s3cret@a.test/",
        "http://@a.test/",
        "http://a.test@127.0.0.1/",
        "http://a.test%40127.0.0.1/",
        "http://a.test\\@127.0.0.1/",
        "http:\\\\a.test/s3cret",
        "http://a.test /s3cret",
        " http://a.test/s3cret",
        "http://a.test/s3cret\r\nhost: b.test",
        "http://a\t.test/s3cret",
        "http://a.test\u{0}/s3cret",
        "http://a.test:0/s3cret",
        "http://a.test:65536/s3cret",
        "http://a.test:-1/s3cret",
        "http://a.test:80:80/s3cret",
        "http://a.test:http/s3cret",
        "http://[::1/s3cret",
        "http://[fe80::1%25eth0]/s3cret",
        "http://[fe80::1%eth0]/s3cret",
        "http://[v1.fe80::1]/s3cret",
        "http://[::ffff:256.0.0.1]/s3cret",
        "http://256.0.0.1/s3cret",
        "http://1.2.3.4.5/s3cret",
        "http://0x100000000/s3cret",
        "http://a.test%2f@b.test/s3cret",
        "http://a%00.test/s3cret",
        "http://a<b.test/s3cret",
        "http://xn--a/s3cret",
        &label,
        &long,
    ];
    let shown = |url: &str| url.len() > 200;
    assert_eq!(urls.iter().filter(|url| shown(url)).count(), 2);
    let short: Vec<&str> = urls.iter().copied().filter(|url| !shown(url)).collect();
    table(
        &Names::new(),
        &allowed,
        &short,
        expect![[r#"

            INVALID_PARAMS the URL of the request is not absolute; begin with https://
        s3cret
            INVALID_PARAMS the URL of the request is not absolute; begin with https://
        /s3cret
            INVALID_PARAMS the URL of the request is not absolute; begin with https://
        //a.test/s3cret
            INVALID_PARAMS the URL of the request is not absolute; begin with https://
        a.test/s3cret
            INVALID_PARAMS the URL of the request is not absolute; begin with https://
        http:a.test/s3cret
            INVALID_PARAMS the URL of the request is not absolute; begin with https://
        http:/a.test/s3cret
            INVALID_PARAMS the URL of the request is not absolute; begin with https://
        file:///etc/s3cret
            INVALID_PARAMS the URL of the request has a scheme other than http and https
        ftp://a.test/s3cret
            INVALID_PARAMS the URL of the request has a scheme other than http and https
        gopher://a.test/s3cret
            INVALID_PARAMS the URL of the request has a scheme other than http and https
        ws://a.test/s3cret
            INVALID_PARAMS the URL of the request has a scheme other than http and https
        unix://a.test/s3cret
            INVALID_PARAMS the URL of the request has a scheme other than http and https
        javascript://a.test/s3cret
            INVALID_PARAMS the URL of the request has a scheme other than http and https
        http://
            INVALID_PARAMS the URL of the request names no host
        http:///s3cret
            INVALID_PARAMS the URL of the request names no host
        http://:80/s3cret
            INVALID_PARAMS the URL of the request names no host
        http://?s3cret
            INVALID_PARAMS the URL of the request names no host
        http://./s3cret
            INVALID_PARAMS the URL of the request names no host
        http://user:s3cret@a.test/
            INVALID_PARAMS the URL of the request holds a user name; send it in the header `authorization`
        http://s3cret@a.test/
            INVALID_PARAMS the URL of the request holds a user name; send it in the header `authorization`
        http://@a.test/
            INVALID_PARAMS the URL of the request holds a user name; send it in the header `authorization`
        http://a.test@127.0.0.1/
            INVALID_PARAMS the URL of the request holds a user name; send it in the header `authorization`
        http://a.test%40127.0.0.1/
            INVALID_PARAMS the URL of the request cannot be read: invalid international domain name
        http://a.test\\@127.0.0.1/
            INVALID_PARAMS the URL of the request holds a space, a control character or a backslash; percent-encode it
        http:\\\\a.test/s3cret
            INVALID_PARAMS the URL of the request holds a space, a control character or a backslash; percent-encode it
        http://a.test /s3cret
            INVALID_PARAMS the URL of the request holds a space, a control character or a backslash; percent-encode it
         http://a.test/s3cret
            INVALID_PARAMS the URL of the request holds a space, a control character or a backslash; percent-encode it
        http://a.test/s3cret\r\nhost: b.test
            INVALID_PARAMS the URL of the request holds a space, a control character or a backslash; percent-encode it
        http://a\t.test/s3cret
            INVALID_PARAMS the URL of the request holds a space, a control character or a backslash; percent-encode it
        http://a.test\0/s3cret
            INVALID_PARAMS the URL of the request holds a space, a control character or a backslash; percent-encode it
        http://a.test:0/s3cret
            INVALID_PARAMS the URL of the request names port 0, which no server has
        http://a.test:65536/s3cret
            INVALID_PARAMS the URL of the request cannot be read: invalid port number
        http://a.test:-1/s3cret
            INVALID_PARAMS the URL of the request cannot be read: invalid port number
        http://a.test:80:80/s3cret
            INVALID_PARAMS the URL of the request cannot be read: invalid port number
        http://a.test:http/s3cret
            INVALID_PARAMS the URL of the request cannot be read: invalid port number
        http://[::1/s3cret
            INVALID_PARAMS the URL of the request cannot be read: invalid IPv6 address
        http://[fe80::1%25eth0]/s3cret
            INVALID_PARAMS the URL of the request cannot be read: invalid IPv6 address
        http://[fe80::1%eth0]/s3cret
            INVALID_PARAMS the URL of the request cannot be read: invalid IPv6 address
        http://[v1.fe80::1]/s3cret
            INVALID_PARAMS the URL of the request cannot be read: invalid IPv6 address
        http://[::ffff:256.0.0.1]/s3cret
            INVALID_PARAMS the URL of the request cannot be read: invalid IPv6 address
        http://256.0.0.1/s3cret
            INVALID_PARAMS the URL of the request cannot be read: invalid IPv4 address
        http://1.2.3.4.5/s3cret
            INVALID_PARAMS the URL of the request cannot be read: invalid IPv4 address
        http://0x100000000/s3cret
            INVALID_PARAMS the URL of the request cannot be read: invalid IPv4 address
        http://a.test%2f@b.test/s3cret
            INVALID_PARAMS the URL of the request holds a user name; send it in the header `authorization`
        http://a%00.test/s3cret
            INVALID_PARAMS the URL of the request cannot be read: invalid international domain name
        http://a<b.test/s3cret
            INVALID_PARAMS the URL of the request cannot be read: invalid international domain name
        http://xn--a/s3cret
            INVALID_PARAMS the URL of the request cannot be read: invalid international domain name
    "#]],
    )
    .await;
    let client = Client::builder().network(Names::new()).build();
    for url in urls.iter().filter(|url| shown(url)) {
        assert!(within(client.send(allowed.clone(), HttpRequest::new("GET", *url))).await.is_err());
    }
}

#[tokio::test]
async fn names_that_lead_to_places() {
    let network = Names::new()
        .name("localhost", &["127.0.0.1", "::1"])
        .name("a.localhost", &["127.0.0.1"])
        .name("loop.test", &["127.0.0.1"])
        .name("metadata.google.internal", &["169.254.169.254"])
        .name("six.test", &["::ffff:10.0.0.1"])
        .name("first.test", &["127.0.0.1", "93.184.216.34"])
        .name("last.test", &["93.184.216.34", "2606:4700::1111", "10.0.0.1"])
        .name("zero.test", &["0.0.0.0"])
        .name("xn--bcher-kva.test", &["192.168.1.1"])
        .name("nowhere.test", &[]);
    let allowed = HttpAllowed::new("test").host("*");
    let urls = [
        "http://localhost/",
        "http://LOCALHOST/",
        "http://localhost./",
        "http://ⓛocalhost/",
        "http://loc%61lhost/",
        "http://a.localhost/",
        "https://loop.test/s3cret",
        "http://metadata.google.internal/computeMetadata/v1/",
        "http://six.test/",
        "http://first.test/",
        "http://last.test/",
        "http://zero.test/",
        "http://bücher.test/",
        "http://nowhere.test/",
        "http://unknown.test/s3cret",
        "http://loop.test:8080/",
    ];
    table(
        &network,
        &allowed,
        &urls,
        expect![[r#"
        http://localhost/
            localhost: it leads to 127.0.0.1, a loopback address
        http://LOCALHOST/
            localhost: it leads to 127.0.0.1, a loopback address
        http://localhost./
            localhost: it leads to 127.0.0.1, a loopback address
        http://ⓛocalhost/
            localhost: it leads to 127.0.0.1, a loopback address
        http://loc%61lhost/
            localhost: it leads to 127.0.0.1, a loopback address
        http://a.localhost/
            a.localhost: it leads to 127.0.0.1, a loopback address
        https://loop.test/s3cret
            loop.test: it leads to 127.0.0.1, a loopback address
        http://metadata.google.internal/computeMetadata/v1/
            metadata.google.internal: it leads to 169.254.169.254, where a cloud machine gets its credentials
        http://six.test/
            six.test: it leads to 10.0.0.1, a private address
        http://first.test/
            first.test: it leads to 127.0.0.1, a loopback address
        http://last.test/
            last.test: it leads to 10.0.0.1, a private address
        http://zero.test/
            zero.test: it leads to 0.0.0.0, an unspecified address
        http://bücher.test/
            xn--bcher-kva.test: it leads to 192.168.1.1, a private address
        http://nowhere.test/
            NETWORK_FAILED nowhere.test could not be reached: its name leads nowhere
        http://unknown.test/s3cret
            NETWORK_FAILED unknown.test could not be reached: its name is not known: no such name in this test
        http://loop.test:8080/
            loop.test:8080: plugin.toml does not list it for port 8080
    "#]],
    )
    .await;
}

#[tokio::test]
async fn a_name_that_changes_is_held_to_what_was_checked() {
    let server = Server::of("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi").await;
    let network = Names::new()
        .route("93.184.216.34:80", server.address())
        // Public when it is looked up first, and loopback ever after.
        .name("rebind.test", &["93.184.216.34"])
        .name("rebind.test", &["127.0.0.1"]);
    let client = Client::builder().network(network.clone()).build();
    let allowed = HttpAllowed::new("test").host("rebind.test");
    let send =
        async || -> Result<u16> { Ok(within(client.send(allowed.clone(), HttpRequest::new("GET", "http://rebind.test/"))).await?.status) };
    assert_eq!(send().await.unwrap(), 200);
    assert_eq!(network.looked_up(), ["rebind.test"], "one lookup, for the check and the connection");
    assert_eq!(
        told(&send().await.unwrap_err()),
        "PERMISSION_DENIED plugin `test` may not send requests to rebind.test: it leads to 127.0.0.1, a loopback address\n    \
         help: add { host = \"rebind.test\", private = true } to network_access under [permissions] in plugin.toml\n"
    );
    assert_eq!(network.connected(), ["93.184.216.34:80".parse().unwrap()]);
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn what_a_request_may_not_hold() {
    let client = Client::builder().network(Names::new()).build();
    let url = "http://a.test/";
    let get = || HttpRequest::new("GET", url);
    let many = (0..40_000).fold(get(), |request, n| request.header(&format!("x-{n}"), "1"));
    let requests = [
        HttpRequest::new("", url),
        HttpRequest::new("GET /s3cret", url),
        HttpRequest::new("CONNECT", url),
        HttpRequest::new("TRACE", url),
        get().header("", "s3cret"),
        get().header("x s3cret", "x"),
        get().header("authorization", "s3cret\r\nx: y"),
        get().header("x-api-key", "s3cret\u{0}"),
        get().header("Host", "s3cret"),
        get().header("Content-Length", "3"),
        get().header("transfer-encoding", "chunked"),
        get().header("connection", "upgrade"),
        get().header("proxy-authorization", "s3cret"),
        many,
    ];
    let mut said = String::new();
    for request in requests {
        said += &told(&within(client.send(HttpAllowed::new("test").host("a.test"), request)).await.unwrap_err());
    }
    assert!(!said.contains("s3cret"), "{said}");
    expect![[r#"
        INVALID_PARAMS the method of the request is none that can be sent
        INVALID_PARAMS the method of the request is none that can be sent
        INVALID_PARAMS the method of the request is none that can be sent
        INVALID_PARAMS the method of the request is none that can be sent
        INVALID_PARAMS a header of the request has a name that cannot be sent
        INVALID_PARAMS a header of the request has a name that cannot be sent
        INVALID_PARAMS the value of the header `authorization` has a line break or a control character
        INVALID_PARAMS the value of the header `x-api-key` has a line break or a control character
        INVALID_PARAMS the header `host` is not the plugin's to send
            help: leave it out
        INVALID_PARAMS the header `content-length` is not the plugin's to send
            help: leave it out
        INVALID_PARAMS the header `transfer-encoding` is not the plugin's to send
            help: leave it out
        INVALID_PARAMS the header `connection` is not the plugin's to send
            help: leave it out
        INVALID_PARAMS the header `proxy-authorization` is not the plugin's to send
            help: leave it out
        INVALID_PARAMS the request has too many headers
    "#]]
    .assert_eq(&said);
}
