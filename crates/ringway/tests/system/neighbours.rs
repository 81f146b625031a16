//! Ringway between programs that others wrote: PROXY headers from and to haproxy and nginx, hellos
//! of openssl and curl.

use std::io::Write;
use std::net::SocketAddr;

use crate::backend::Server;
use crate::foreign::{Neighbour, are_there, certificate, run};
use crate::peers::{End, connect, drain, read_exactly};
use crate::setup::Setup;

/// What haproxy knows of a connection that came with a header.
const HAPROXY_TELLS: &str = "\
listen l
 bind {0} accept-proxy
 mode http
 http-request return status 200 content-type text/plain lf-string \
 \"%[src]:%[src_port] %[dst]:%[dst_port] %[fc_pp_authority] %[fc_pp_unique_id,length]\"
";

/// The same of nginx.
const NGINX_TELLS: &str = "\
stream { server { listen {0} proxy_protocol; \
 return \"$proxy_protocol_addr:$proxy_protocol_port \
 $proxy_protocol_server_addr:$proxy_protocol_server_port\"; } }
";

/// The last line of what comes back, and the client's own address.
fn ask(address: SocketAddr, request: &[u8]) -> (String, SocketAddr) {
    let mut client = connect(address);
    let own = client.local_addr().unwrap();
    client.write_all(request).unwrap();
    let (answer, end) = drain(client);
    let answer = String::from_utf8(answer).unwrap();
    assert_eq!(end, End::Fin, "{answer}");
    let last = answer.lines().last().unwrap_or_default();
    (last.to_owned(), own)
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[test]
fn haproxy_understands_our_headers() {
    if !are_there(&["haproxy"]) {
        return;
    }
    let haproxy = Neighbour::haproxy(HAPROXY_TELLS, 1);
    for (key, id_len) in [("v1", ""), ("v2", "32")] {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let setup = Setup::to([haproxy.address(0)]).binds(&[bind]);
            let ringway = setup.pool(&format!("send_proxy_protocol: {key}")).start();
            let (told, own) = ask(ringway.address(), GET);
            let (from, to) = (bare(own), bare(ringway.address()));
            assert_eq!(
                told.trim_end(),
                format!("{from} {to}  {id_len}").trim_end(),
                "{key}"
            );
        }
    }
}

#[test]
fn nginx_understands_our_headers() {
    if !are_there(&["nginx"]) {
        return;
    }
    let nginx = Neighbour::nginx(NGINX_TELLS, 1);
    for key in ["v1", "v2"] {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let setup = Setup::to([nginx.address(0)]).binds(&[bind]);
            let ringway = setup.pool(&format!("send_proxy_protocol: {key}")).start();
            let (told, own) = ask(ringway.address(), b"");
            assert_eq!(
                told,
                format!("{} {}", bare(own), bare(ringway.address())),
                "{key}"
            );
        }
    }
}

/// As they print addresses.
fn bare(address: SocketAddr) -> String {
    format!("{}:{}", address.ip(), address.port())
}

/// Their checks of our header's form are ours of theirs; checks of type tcp and http pass, too.
#[test]
fn health_checks_of_backends_that_want_a_header_pass() {
    if !are_there(&["haproxy"]) {
        return;
    }
    let haproxy = Neighbour::haproxy(HAPROXY_TELLS, 1);
    for key in ["v1", "v2"] {
        let setup = Setup::to([haproxy.address(0)]).health_checks_of("type: http");
        let ringway = setup.pool(&format!("send_proxy_protocol: {key}")).start();
        crate::eventually::until_is("state", "up".to_owned(), || ringway.backend_state(0));
        let checks = ringway.metrics();
        assert_eq!(checks.sum("health_checks_total", &[("result", "fail")]), 0);
    }
}

/// What a sender's header says arrives, and the payload behind it.
#[test]
fn we_understand_the_headers_of_haproxy_and_nginx() {
    if !are_there(&["haproxy", "nginx"]) {
        return;
    }
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()]).trusting("127.0.0.1/32");
    let ringway = setup.access_log("DIR/access.log").start();
    let to = ringway.address();
    let relay = |number: usize, words: &str| {
        format!("listen l{number}\n bind {{{number}}}\n mode tcp\n server s {to} {words}\n")
    };
    let words = [
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2 proxy-v2-options crc32c,unique-id",
        "send-proxy-v2-ssl-cn",
    ];
    let file: String = (0..)
        .zip(words)
        .map(|(number, words)| relay(number, words))
        .collect();
    let haproxy = Neighbour::haproxy(&file, words.len());
    let server = format!("server {{ listen {{0}}; proxy_pass {to}; proxy_protocol on; }}");
    let nginx = Neighbour::nginx(&format!("stream {{ {server} }}\n"), 1);
    let mut through: Vec<SocketAddr> = (0..words.len()).map(|at| haproxy.address(at)).collect();
    through.push(nginx.address(0));
    let mut clients = Vec::new();
    for address in through {
        let mut client = connect(address);
        clients.push(client.local_addr().unwrap().to_string());
        client.write_all(b"payload").unwrap();
        assert_eq!(&read_exactly::<8>(&client), b"apayload");
    }
    // Their starts were noticed by connections of ours, which they passed on.
    let path = ringway.dir().join("access.log");
    crate::eventually::until("every client is logged", || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        clients
            .iter()
            .all(|client| text.contains(&format!("\"client\":\"{client}\"")))
    });
    assert_eq!(ringway.refused("proxy_protocol"), 0);
}

/// Two names, each a TLS server of its own, and one for what has no name.
fn tls_servers(dir: &std::path::Path) -> Neighbour {
    certificate(dir);
    let dir = dir.display();
    let server = |number: usize, name: &str| {
        format!(
            "server {{ listen {{{number}}} ssl; \
             ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem; \
             ssl_protocols TLSv1.2 TLSv1.3; return {name}; }}"
        )
    };
    let answer = |name: &str| {
        format!(
            "\"HTTP/1.1 200 OK\\r\\nContent-Length: 1\\r\\nConnection: close\\r\\n\\r\\n{name}\""
        )
    };
    let servers: String = (0..)
        .zip(["a", "b", "p"])
        .map(|(number, name)| server(number, &answer(name)))
        .collect();
    Neighbour::nginx(&format!("stream {{ {servers} }}\n"), 3)
}

#[test]
fn curl_reaches_the_server_it_names() {
    if !are_there(&["nginx", "openssl", "curl"]) {
        return;
    }
    let dir = tempfile::TempDir::new().unwrap();
    let nginx = tls_servers(dir.path());
    let setup = Setup::to([nginx.address(2)]).listener("routes:");
    let setup = setup.route("a", nginx.address(0), "sni: [a.example]");
    let setup = setup.route("b", nginx.address(1), "sni: ['*.b.example']");
    let ringway = setup.workers(2).start();
    let (host, port) = (ringway.address().ip(), ringway.address().port());
    let versions = [
        ["--tlsv1.2", "--tls-max", "1.2"],
        ["--tlsv1.3", "--tls-max", "1.3"],
    ];
    for (name, expected) in [("a.example", "a"), ("1.B.example", "b"), ("c.example", "p")] {
        for version in versions {
            for curve in ["X25519", "P-256", "P-384:P-521"] {
                let resolve = format!("{name}:{port}:{host}");
                let url = format!("https://{name}:{port}/");
                let mut arguments = vec![
                    "-sSk",
                    "--http1.1",
                    "--curves",
                    curve,
                    "--resolve",
                    &resolve,
                ];
                arguments.extend(version);
                arguments.push(&url);
                let output = run("curl", &arguments);
                let answer = String::from_utf8_lossy(&output.stdout).into_owned();
                assert_eq!(answer, expected, "{arguments:?} {output:?}");
            }
        }
    }
    // By address, without a name.
    let url = format!("https://{host}:{port}/");
    let output = run("curl", &["-sSk", "--http1.1", &url]);
    assert_eq!(output.stdout, b"p", "{output:?}");
}

#[test]
fn openssl_is_led_by_name_and_protocol() {
    if !are_there(&["nginx", "openssl"]) {
        return;
    }
    let dir = tempfile::TempDir::new().unwrap();
    let nginx = tls_servers(dir.path());
    let setup = Setup::to([nginx.address(2)]).listener("routes:");
    let setup = setup.route("a", nginx.address(0), "sni: [a.example], alpn: [h2]");
    let setup = setup.route("b", nginx.address(1), "sni: [a.example]");
    let ringway = setup.start();
    let address = ringway.address().to_string();
    for (arguments, expected) in [
        (
            &["-servername", "a.example", "-alpn", "h2,http/1.1"][..],
            b'a',
        ),
        (&["-servername", "a.example", "-alpn", "http/1.1"], b'b'),
        (&["-servername", "A.EXAMPLE", "-tls1_2"], b'b'),
        (
            &["-servername", "a.example", "-tls1_3", "-groups", "P-521"],
            b'b',
        ),
        (
            &["-servername", "a.example", "-curves", "X448:X25519"],
            b'b',
        ),
        (&["-servername", "b.example"], b'p'),
        (&["-noservername"], b'p'),
    ] {
        let mut all = vec!["s_client", "-connect", &address, "-quiet", "-ign_eof"];
        all.extend(arguments);
        let output = run("openssl", &all);
        assert_eq!(
            output.stdout.last(),
            Some(&expected),
            "{arguments:?} {output:?}"
        );
    }
}
