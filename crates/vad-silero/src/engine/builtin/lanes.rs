//! Vector registers: a value of one of these types proves that the processor has its instructions.
//! Loads, sums of products and stores; all else is left to the compiler.
//!
//! Arrays alone do not do: the compiler keeps a tile of sums in memory instead of in registers.

#![allow(unsafe_code)] // intrinsics are unsafe where the function does not name their instruction set

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m128, __m256, __m512, _mm_add_ps, _mm_loadu_ps, _mm_mul_ps, _mm_set1_ps, _mm_storeu_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_set1_ps, _mm256_storeu_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps,
};

/// Registers of `L` floats.
///
/// **Invariant:** a value exists only on a processor that has the instructions, see each `detect`.
/// The methods must be inlined into a function that names the instruction set, or they are calls.
pub(super) trait Lanes<const L: usize>: Copy {
    /// One register.
    type Register: Copy;

    fn splat(self, x: f32) -> Self::Register;

    fn load(self, from: &[f32; L]) -> Self::Register;

    fn store(self, register: Self::Register, to: &mut [f32; L]);

    /// `a × b + c`, fused where the processor can.
    fn mul_add(self, a: Self::Register, b: Self::Register, c: Self::Register) -> Self::Register;
}

/// AVX2 with FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

#[cfg(target_arch = "x86_64")]
impl Lanes<8> for Avx2 {
    type Register = __m256;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: `self` exists, so the processor has AVX2.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; 8]) -> __m256 {
        // SAFETY: as above; an unaligned load of eight floats from an array of eight.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, register: __m256, to: &mut [f32; 8]) {
        // SAFETY: as above; an unaligned store of eight floats to an array of eight.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), register) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: `self` exists, so the processor has FMA.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
}

/// AVX-512, with AVX2 and FMA, which every processor with it has.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

#[cfg(target_arch = "x86_64")]
impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
        (wide && Avx2::detect().is_some()).then_some(Self(()))
    }
}

#[cfg(target_arch = "x86_64")]
impl Lanes<16> for Avx512 {
    type Register = __m512;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` exists, so the processor has AVX-512 F.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> __m512 {
        // SAFETY: as above; an unaligned load of sixteen floats from an array of sixteen.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, register: __m512, to: &mut [f32; 16]) {
        // SAFETY: as above; an unaligned store of sixteen floats to an array of sixteen.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), register) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
}

/// What every processor of this architecture has, four floats at a time.
#[derive(Clone, Copy)]
pub(super) struct Baseline;

#[cfg(target_arch = "x86_64")]
impl Lanes<4> for Baseline {
    type Register = __m128;

    #[inline(always)]
    fn splat(self, x: f32) -> __m128 {
        // SAFETY: SSE is part of x86_64.
        unsafe { _mm_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; 4]) -> __m128 {
        // SAFETY: an unaligned load of four floats from an array of four.
        unsafe { _mm_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, register: __m128, to: &mut [f32; 4]) {
        // SAFETY: an unaligned store of four floats to an array of four.
        unsafe { _mm_storeu_ps(to.as_mut_ptr(), register) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m128, b: __m128, c: __m128) -> __m128 {
        // SAFETY: SSE is part of x86_64.
        unsafe { _mm_add_ps(_mm_mul_ps(a, b), c) }
    }
}

#[cfg(target_arch = "aarch64")]
impl Lanes<4> for Baseline {
    type Register = std::arch::aarch64::float32x4_t;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Register {
        // SAFETY: NEON is part of aarch64.
        unsafe { std::arch::aarch64::vdupq_n_f32(x) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; 4]) -> Self::Register {
        // SAFETY: a load of four floats from an array of four.
        unsafe { std::arch::aarch64::vld1q_f32(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, register: Self::Register, to: &mut [f32; 4]) {
        // SAFETY: a store of four floats to an array of four.
        unsafe { std::arch::aarch64::vst1q_f32(to.as_mut_ptr(), register) }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Register, b: Self::Register, c: Self::Register) -> Self::Register {
        // SAFETY: NEON is part of aarch64.
        unsafe { std::arch::aarch64::vfmaq_f32(c, a, b) }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
impl Lanes<4> for Baseline {
    type Register = [f32; 4];

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 4] {
        [x; 4]
    }

    #[inline(always)]
    fn load(self, from: &[f32; 4]) -> [f32; 4] {
        *from
    }

    #[inline(always)]
    fn store(self, register: [f32; 4], to: &mut [f32; 4]) {
        *to = register;
    }

    #[inline(always)]
    fn mul_add(self, a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        [a[0] * b[0] + c[0], a[1] * b[1] + c[1], a[2] * b[2] + c[2], a[3] * b[3] + c[3]]
    }
}
