//! Named values: attributes that a plugin tells of itself, and options that a client is made with.

use std::{ffi::c_char, fmt};

use crate::{
    error::PjrtError,
    sys::{self, text},
};

/// One value of an attribute or option.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Text.
    String(String),
    /// A number.
    Int(i64),
    /// Numbers, such as the three of a version.
    Ints(Vec<i64>),
    /// A number with a fraction.
    Float(f32),
    /// Yes or no.
    Bool(bool),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::String(text) => f.write_str(text),
            Value::Int(n) => n.fmt(f),
            Value::Ints(numbers) => numbers.iter().enumerate().try_for_each(|(at, n)| write!(f, "{}{n}", if at > 0 { "." } else { "" })),
            Value::Float(n) => n.fmt(f),
            Value::Bool(yes) => yes.fmt(f),
        }
    }
}

const STRING: u32 = 0;
const INT: u32 = 1;
const INTS: u32 = 2;
const FLOAT: u32 = 3;
const BOOL: u32 = 4;

/// Most attributes that a plugin is believed to have.
const MOST: usize = 4096;
/// Most bytes that one of them is believed to take.
const LARGEST: usize = 4096;

/// As C has it, good for as long as what it was made from.
pub(crate) fn to_c(name: &str, value: &Value) -> sys::NamedValue {
    let (kind, number, size) = match value {
        Value::String(text) => (STRING, text.as_ptr().expose_provenance() as u64, text.len()),
        Value::Int(n) => (INT, n.cast_unsigned(), 1),
        Value::Ints(numbers) => (INTS, numbers.as_ptr().expose_provenance() as u64, numbers.len()),
        Value::Float(n) => (FLOAT, u64::from(n.to_bits()), 1),
        Value::Bool(yes) => (BOOL, u64::from(*yes), 1),
    };
    sys::NamedValue {
        size: size_of::<sys::NamedValue>(),
        extensions: std::ptr::null_mut(),
        name: name.as_ptr().cast(),
        name_size: name.len(),
        kind,
        zero: 0,
        value: number,
        value_size: size,
    }
}

/// What a plugin told of itself; values of a kind that nobody knows are left out.
///
/// # Safety
/// `first` is null or points to `count` values, each as long as the first says, as PJRT's header has them.
#[allow(unsafe_code, reason = "reads what a plugin's C interface points to")]
pub(crate) unsafe fn from_c(
    function: &'static str,
    first: *const sys::NamedValue,
    count: usize,
) -> Result<Vec<(String, Value)>, PjrtError> {
    if first.is_null() || count == 0 {
        return Ok(Vec::new());
    }
    let wrong = |what: String| PjrtError::Answer { function, what };
    // SAFETY: `count` is not zero, so that there is a first one, which begins with its size.
    let size = unsafe { (*first).size };
    // One that was built with more fields at the end has longer elements.
    let step = size.next_multiple_of(align_of::<sys::NamedValue>());
    if count > MOST || size < size_of::<sys::NamedValue>() || step > LARGEST {
        return Err(wrong(format!("{count} values of {size} bytes")));
    }
    let mut values = Vec::with_capacity(count);
    for n in 0..count {
        // SAFETY: there are `count` of them, `step` apart, by what the caller promises.
        let raw = unsafe { &*first.byte_add(n * step) };
        let pointer = || std::ptr::with_exposed_provenance::<u8>(raw.value as usize);
        let value = match raw.kind {
            // SAFETY: a string is a pointer and the number of its bytes.
            STRING => Value::String(unsafe { text(pointer().cast::<c_char>(), raw.value_size) }),
            INT => Value::Int(raw.value.cast_signed()),
            // SAFETY: a list is a pointer and the number of its numbers.
            INTS => Value::Ints(unsafe { sys::list(pointer().cast::<i64>(), raw.value_size) }.to_vec()),
            // The union's first bytes, on the little-endian machines that there are.
            FLOAT => Value::Float(f32::from_bits((raw.value & 0xffff_ffff) as u32)),
            BOOL => Value::Bool(raw.value & 0xff != 0),
            _ => continue,
        };
        // SAFETY: a name is a pointer and the number of its bytes.
        values.push((unsafe { text(raw.name, raw.name_size) }, value));
    }
    Ok(values)
}
