//! Against another parser, on every hello there is here.

use super::captures::CAPTURES;
use super::{cases, records};
use crate::tests::others::tls_parser::agree;

#[test]
fn another_parser_reads_the_same() {
    let generated = cases()
        .into_iter()
        .map(|case| records(&case.hello.message(), &[]));
    let captured = CAPTURES.iter().map(|capture| capture.bytes.to_vec());
    let all: Vec<Vec<u8>> = generated.chain(captured).collect();
    let agreed = all.iter().filter(|bytes| agree(bytes)).count();
    assert_eq!(agreed, all.len());
}
