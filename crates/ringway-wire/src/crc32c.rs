//! CRC32C, the checksum of RFC 4960 appendix B (Castagnoli's polynomial, reflected), one byte at a time.
//!
//! Headers are short and rare: once per connection, and only where the sender asks for it.

/// 0x1EDC6F41 with its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = table();

/// A checksum over bytes that come in several pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crc32c {
    state: u32,
}

impl Crc32c {
    pub(crate) const fn new() -> Self {
        Self { state: u32::MAX }
    }

    pub(crate) fn update(mut self, bytes: &[u8]) -> Self {
        for &byte in bytes {
            let index = (self.state ^ u32::from(byte)) & 0xff;
            self.state = (self.state >> 8) ^ TABLE[index as usize];
        }
        self
    }

    pub(crate) const fn value(self) -> u32 {
        !self.state
    }
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = (value >> 1) ^ (if value & 1 == 1 { POLYNOMIAL } else { 0 });
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_published_vectors() {
        // The check value of the catalogues, and the vectors of RFC 3720 appendix B.4.
        let crc = |bytes: &[u8]| Crc32c::new().update(bytes).value();
        assert_eq!(crc(b"123456789"), 0xe306_9283);
        assert_eq!(crc(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(
            crc(&std::array::from_fn::<u8, 32, _>(|i| i as u8)),
            0x46dd_794e
        );
    }

    #[test]
    fn pieces_add_up() {
        let crc = Crc32c::new().update(b"1234").update(b"").update(b"56789");
        assert_eq!(crc.value(), 0xe306_9283);
    }
}
