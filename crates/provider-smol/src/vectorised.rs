//! A macro that compiles a plain Rust loop a second time for AVX2 and chooses at run time.
//!
//! There is no AVX-512 variant: compiled for it, the attention loop ran at a sixth of its speed for AVX2 (rustc 1.95).
//!
//! For loops that the compiler vectorises by itself once it may use the wider registers; kernels that need particular
//! instructions are written out in `kernel`.

/// Turns `fn name(args) { body }` into `pub(crate) fn name(isa: Isa, args)`, which runs the body compiled for `isa`. In the
/// body, the constant `FMA` says whether a fused multiplication and addition is one instruction.
macro_rules! vectorised {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block)*) => {$(
        $(#[$doc])*
        #[allow(unsafe_code)] // only the calls below, each proven by `isa`
        pub(crate) fn $name(isa: $crate::kernel::Isa, $($arg: $ty),*) {
            #[inline(always)]
            fn plain<const FMA: bool>($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2($($arg: $ty),*) { plain::<true>($($arg),*) }
                if isa != $crate::kernel::Isa::Portable {
                    // SAFETY: `Compute` hands out an instruction set only after detecting it on this processor, and
                    // the detection of AVX-512 includes that of these.
                    return unsafe { avx2($($arg),*) };
                }
            }
            plain::<false>($($arg),*)
        }
    )*};
}
pub(crate) use vectorised;
