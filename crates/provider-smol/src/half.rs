//! 16-bit floats in plain arithmetic, written so that the compiler can vectorise them on every processor.

/// The value of an IEEE half. Infinities and NaN become large finite numbers: neither occurs in sound weights or caches.
#[inline(always)]
pub(crate) fn to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    // The exponent is rebased by a multiplication, which also turns subnormal halves into normal floats.
    let magnitude = f32::from_bits(u32::from(half & 0x7fff) << 13) * f32::from_bits(0x7780_0000); // 2^112
    f32::from_bits(magnitude.to_bits() | sign)
}

/// The nearest half of `value`, ties to even; values beyond ±65504 become ±65504.
#[inline(always)]
pub(crate) fn from_f32(value: f32) -> u16 {
    let sign = (value.to_bits() >> 16) as u16 & 0x8000;
    let magnitude = f32::from_bits(value.to_bits() & 0x7fff_ffff);
    let magnitude = if magnitude < 65504.0 { magnitude } else { 65504.0 };
    // Normal halves: rebase the exponent and round on bit 13. Subnormal ones: let the adder round at 2^-24.
    let bits = magnitude.to_bits();
    let normal = bits.wrapping_sub(112 << 23).wrapping_add(0xfff + ((bits >> 13) & 1)) >> 13;
    let subnormal = (magnitude + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let half = if magnitude < 6.103_515_6e-5 { subnormal } else { normal };
    half as u16 | sign
}

#[cfg(test)]
mod tests {
    use super::{from_f32, to_f32};

    #[test]
    fn every_finite_half_survives_the_round_trip() {
        for half in (0..=0xffffu16).filter(|h| h & 0x7c00 != 0x7c00) {
            assert_eq!(from_f32(to_f32(half)), half, "{half:#06x}");
        }
    }

    #[test]
    fn rounds_to_nearest_even_and_saturates() {
        assert_eq!(to_f32(from_f32(1.0 + 1.0 / 2048.0)), 1.0);
        assert_eq!(to_f32(from_f32(1.0 + 3.0 / 2048.0)), 1.0 + 2.0 / 1024.0);
        assert_eq!(to_f32(from_f32(-1e9)), -65504.0);
        assert_eq!(to_f32(from_f32(1e-12)), 0.0);
    }
}
