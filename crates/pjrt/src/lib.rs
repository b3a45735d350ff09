//! PJRT plugins by their C interface: a library found at run time compiles StableHLO and runs it on its devices. The only crate that
//! calls through PJRT's table; it does not know where libraries come from, nor what a program is for.
//!
//! ```no_run
//! use bespoke_pjrt::{Client, CompileOptions, Library, Tensor};
//!
//! let library = Library::load("/opt/xla/xla_cpu_pjrt.so".as_ref(), &[])?;
//! let client = Client::new(library, &[])?;
//! let program = client.compile(
//!     "func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
//!        %sum = stablehlo.add %x, %x : tensor<2xf32>
//!        return %sum : tensor<2xf32>
//!      }",
//!     &CompileOptions::default(),
//! )?;
//! let x = client.buffer(&Tensor::of(&[2], &[1.0_f32, 2.5])?, 0)?;
//! let results = program.execute(&[&x])?;
//! assert_eq!(results[0].to_host()?.values::<f32>().as_deref(), Some(&[2.0, 5.0][..]));
//! # Ok::<(), bespoke_pjrt::PjrtError>(())
//! ```
//!
//! **A library is trusted code.** It is loaded into the process and can do what the process can. What is checked before the first call:
//! that it is a PJRT plugin, that its API is one that this crate speaks, and that every function that is needed is there.
//!
//! **Versions.** Functions of API 0.x keep their places in the table, and their arguments only grow at the end. A plugin refuses
//! arguments that are *smaller* than those it was built with, so every one is passed with room behind it, all zero, which means "not
//! given". API 0.81 and 0.116 were tried.
//!
//! A library stays for the life of the process: its threads do not end, so it can never be unloaded.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("PJRT plugins exist for 64-bit machines only");

mod client;
mod error;
mod executable;
mod library;
mod proto;
mod sys;
mod tensor;
mod value;

pub use client::{Buffer, Client, Device};
pub use error::{ErrorCode, PjrtError};
pub use executable::{CompileOptions, Executable};
pub use library::{LIBRARY_VAR, Library, SKIP_TPU_METADATA, skip_tpu_metadata};
pub use tensor::{Element, ElementType, Tensor, TensorType};
pub use value::Value;
