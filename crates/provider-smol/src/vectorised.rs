//! A macro that compiles a plain Rust loop once per instruction set and chooses at run time.
//!
//! For loops that the compiler vectorises by itself once it may use the wider registers; kernels that need particular
//! instructions are written out in `kernel`.

/// Turns `fn name(args) { body }` into `pub(crate) fn name(isa: Isa, args)`, which runs the body compiled for `isa`.
macro_rules! vectorised {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block)*) => {$(
        $(#[$doc])*
        #[allow(unsafe_code)] // only the calls below, each proven by `isa`
        pub(crate) fn $name(isa: $crate::kernel::Isa, $($arg: $ty),*) {
            #[inline(always)]
            fn plain($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
                fn avx512($($arg: $ty),*) { plain($($arg),*) }
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2($($arg: $ty),*) { plain($($arg),*) }
                match isa {
                    // SAFETY: `Compute` hands out an instruction set only after detecting it on this processor.
                    $crate::kernel::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernel::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::kernel::Isa::Portable => {}
                }
            }
            plain($($arg),*)
        }
    )*};
}
pub(crate) use vectorised;
