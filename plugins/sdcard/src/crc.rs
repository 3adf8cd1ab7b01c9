//! The checksums of commands and data blocks. Physical Layer Simplified Specification §4.5.

/// CRC7 of a command or a register: x^7 + x^3 + 1, from 0.
pub(crate) fn crc7(bytes: &[u8]) -> u8 {
    // In the upper seven bits of the byte, which is also where it is sent.
    let step = |crc: u8, _| if crc & 0x80 != 0 { crc << 1 ^ 0x09 << 1 } else { crc << 1 };
    bytes.iter().fold(0, |crc, byte| (0..8).fold(crc ^ byte, step)) >> 1
}

/// CRC16 of a data block: x^16 + x^12 + x^5 + 1, from 0.
pub(crate) fn crc16(bytes: &[u8]) -> u16 {
    let step = |crc: u16, _| if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 };
    bytes.iter().fold(0, |crc, byte| (0..8).fold(crc ^ u16::from(*byte) << 8, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of §4.5.
    #[test]
    fn they_are_the_specifications() {
        assert_eq!(crc7(&[0x40, 0, 0, 0, 0]), 0b100_1010);
        assert_eq!(crc7(&[0x51, 0, 0, 0, 0]), 0b010_1010);
        assert_eq!(crc7(&[0x11, 0, 0, 9, 0]), 0b011_0011);
        assert_eq!(crc16(&[0xff; 512]), 0x7fa1);
    }
}
