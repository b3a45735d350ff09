//! Values as JSON: numbers in lists in lists, as many deep as a type has dimensions. JSON has no word for what is no number, so those
//! stand as text: "NaN", "inf" and "-inf". A complex number is a list of two.

use bespoke_pjrt::{Element, ElementType, Tensor, TensorType};
use serde_json::{Number, Value};

/// What was typed as one input.
pub(super) fn parse(n: usize, text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("input {n} is no JSON: {error}: {text}"))
}

/// Values for a program that takes these types.
pub(super) fn inputs(written: &[Value], types: &[TensorType]) -> Result<Vec<Tensor>, String> {
    if written.len() != types.len() {
        let all: Vec<_> = types.iter().map(ToString::to_string).collect();
        let takes = match types.len() {
            0 => "the program takes no input".to_owned(),
            1 => format!("the program takes one input, a {}", all[0]),
            count => format!("the program takes {count} inputs, {}", all.join(", ")),
        };
        return Err(format!(
            "{takes}; there {}",
            match written.len() {
                0 => "is none: add --input JSON for each".to_owned(),
                1 => "is one --input".to_owned(),
                count => format!("are {count} --input"),
            }
        ));
    }
    written.iter().zip(types).enumerate().map(|(n, (value, of))| tensor(n, value, of)).collect()
}

fn tensor(n: usize, value: &Value, of: &TensorType) -> Result<Tensor, String> {
    let mut data = Vec::new();
    gather(value, of, &of.dimensions, &mut format!("input {n}"), &mut data)?;
    Tensor::new(of.clone(), data).map_err(|error| error.to_string())
}

/// Writes the elements below a value; `place` says where it stands.
fn gather(value: &Value, of: &TensorType, dimensions: &[usize], place: &mut String, data: &mut Vec<u8>) -> Result<(), String> {
    let Some((length, inner)) = dimensions.split_first() else {
        return element(value, of.element, data).ok_or_else(|| format!("{place} is no {}: {}", of.element, brief(value)));
    };
    let items = value.as_array().ok_or_else(|| format!("{place} is no list of {length}, as {of} has there: {}", brief(value)))?;
    if items.len() != *length {
        return Err(format!("{place} is a list of {}, where {of} has {length}", items.len()));
    }
    let end = place.len();
    for (n, item) in items.iter().enumerate() {
        place.push_str(&format!("[{n}]"));
        gather(item, of, inner, place, data)?;
        place.truncate(end);
    }
    Ok(())
}

/// A value in a message.
fn brief(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    if text.len() <= MOST { text } else { format!("{}…", &text[..text.floor_char_boundary(MOST)]) }
}

/// Writes one element; `None` when the value is none of this type.
fn element(value: &Value, of: ElementType, data: &mut Vec<u8>) -> Option<()> {
    fn put<T: Element>(value: Option<T>, data: &mut Vec<u8>) -> Option<()> {
        Tensor::of(&[], &[value?]).map(|one| data.extend_from_slice(one.bytes())).ok()
    }
    fn signed<T: TryFrom<i64>>(value: &Value) -> Option<T> {
        T::try_from(value.as_i64()?).ok()
    }
    fn unsigned<T: TryFrom<u64>>(value: &Value) -> Option<T> {
        T::try_from(value.as_u64()?).ok()
    }
    match of {
        ElementType::Pred => put(value.as_bool(), data),
        ElementType::S8 => put::<i8>(signed(value), data),
        ElementType::S16 => put::<i16>(signed(value), data),
        ElementType::S32 => put::<i32>(signed(value), data),
        ElementType::S64 => put::<i64>(signed(value), data),
        ElementType::U8 => put::<u8>(unsigned(value), data),
        ElementType::U16 => put::<u16>(unsigned(value), data),
        ElementType::U32 => put::<u32>(unsigned(value), data),
        ElementType::U64 => put::<u64>(unsigned(value), data),
        ElementType::F16 => put(float(value).and_then(f16_bits), data),
        ElementType::Bf16 => put(float(value).and_then(bf16_bits), data),
        ElementType::F32 => put(float(value).and_then(|n| in_range(n, f64::from(n as f32)).map(|n| n as f32)), data),
        ElementType::F64 => put(float(value), data),
        ElementType::C64 | ElementType::C128 => {
            let part = if of == ElementType::C64 { ElementType::F32 } else { ElementType::F64 };
            let [real, imaginary] = value.as_array()?.as_slice() else { return None };
            element(real, part, data)?;
            element(imaginary, part, data)
        }
        _ => None,
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        // What is a number has no need of quotes.
        Value::String(text) => text.parse().ok().filter(|n: &f64| !n.is_finite()),
        _ => None,
    }
}

/// A number that became infinite by rounding is too large for its type.
fn in_range(exact: f64, rounded: f64) -> Option<f64> {
    (rounded.is_finite() || !exact.is_finite()).then_some(exact)
}

/// The nearest `f16`, ties to even; `None` for what is too large.
fn f16_bits(exact: f64) -> Option<u16> {
    /// 2^-24: what the last bit of the smallest numbers is worth.
    const STEP: f64 = 1.0 / 16_777_216.0;
    let sign = u16::from(exact.is_sign_negative()) << 15;
    let size = exact.abs();
    if size.is_nan() {
        return Some(0x7e00);
    }
    if size.is_infinite() {
        return Some(sign | 0x7c00);
    }
    // The power of two below it, but not below that of the smallest numbers, which share one.
    let power = ((size.to_bits() >> 52) as i32 - 1023).max(-14);
    let steps = (size / (STEP * 2_f64.powi(power + 14))).round_ties_even();
    // Steps beyond the first 1024 count the exponent up.
    let bits = steps as u64 + (((power + 14) as u64) << 10);
    u16::try_from(bits).ok().filter(|bits| *bits < 0x7c00).map(|bits| sign | bits)
}

fn f16_value(bits: u16) -> f64 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
    }
}

/// The nearest `bf16`, ties to even; `None` for what is too large.
fn bf16_bits(exact: f64) -> Option<u16> {
    if exact.is_nan() {
        return Some(0x7fc0);
    }
    // Rounded to odd first, so that rounding twice ends where rounding once does.
    let single = exact as f32;
    let is_exact = f64::from(single) == exact;
    let toward_zero = if f64::from(single).abs() > exact.abs() { single.to_bits() - 1 } else { single.to_bits() };
    let odd = if is_exact { toward_zero } else { toward_zero | 1 };
    let rounded = (u64::from(odd) + 0x7fff + u64::from(odd >> 16 & 1)) >> 16;
    let bits = (rounded & 0xffff) as u16;
    (bits & 0x7fff < 0x7f80 || exact.is_infinite()).then_some(bits)
}

/// A result as JSON.
pub(super) fn nested(result: &Tensor) -> Value {
    let of = result.tensor_type();
    let mut elements = result.bytes().chunks_exact(of.element.size()).map(|bytes| scalar(bytes, of.element));
    build(&of.dimensions, &mut elements)
}

fn build(dimensions: &[usize], elements: &mut dyn Iterator<Item = Value>) -> Value {
    match dimensions.split_first() {
        // There are as many elements as the dimensions say.
        None => elements.next().unwrap_or_default(),
        Some((length, inner)) => Value::Array((0..*length).map(|_| build(inner, elements)).collect()),
    }
}

fn scalar(bytes: &[u8], of: ElementType) -> Value {
    fn one<T: Element>(bytes: &[u8]) -> T {
        T::read(bytes)
    }
    match of {
        ElementType::Pred => Value::Bool(one(bytes)),
        ElementType::S8 => one::<i8>(bytes).into(),
        ElementType::S16 => one::<i16>(bytes).into(),
        ElementType::S32 => one::<i32>(bytes).into(),
        ElementType::S64 => one::<i64>(bytes).into(),
        ElementType::U8 => one::<u8>(bytes).into(),
        ElementType::U16 => one::<u16>(bytes).into(),
        ElementType::U32 => one::<u32>(bytes).into(),
        ElementType::U64 => one::<u64>(bytes).into(),
        ElementType::F16 => real(f16_value(one(bytes)) as f32),
        ElementType::Bf16 => real(f32::from_bits(u32::from(one::<u16>(bytes)) << 16)),
        ElementType::F32 => real(one::<f32>(bytes)),
        ElementType::F64 => double(one(bytes)),
        ElementType::C64 => Value::Array(bytes.chunks_exact(4).map(|part| real(one(part))).collect()),
        ElementType::C128 => Value::Array(bytes.chunks_exact(8).map(|part| double(one(part))).collect()),
        _ => Value::Null,
    }
}

/// With as many digits as tell it from its neighbours, not those of the wider type.
fn real(value: f32) -> Value {
    double(value.to_string().parse().unwrap_or(f64::from(value)))
}

fn double(value: f64) -> Value {
    Number::from_f64(value).map_or_else(|| Value::String(value.to_string()), Value::Number)
}

/// A result to be read: as JSON, with room behind commas and without quotes.
pub(super) fn written(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", ")),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(element: ElementType, dimensions: &[usize]) -> TensorType {
        TensorType::new(element, dimensions)
    }

    /// What is typed comes out as it was, for each type.
    #[test]
    fn values_go_there_and_back() {
        for (element, text) in [
            (ElementType::Pred, "[true, false]"),
            (ElementType::S8, "[-128, 127]"),
            (ElementType::S64, "[-9223372036854775808, 9223372036854775807]"),
            (ElementType::U8, "[0, 255]"),
            (ElementType::U64, "[0, 18446744073709551615]"),
            (ElementType::F16, "[0.1, -65504.0]"),
            (ElementType::Bf16, "[0.5, -1e38]"),
            (ElementType::F32, "[0.1, -3.4e38]"),
            (ElementType::F32, "[\"NaN\", \"-inf\"]"),
            (ElementType::F64, "[0.1, 1e300]"),
            (ElementType::C64, "[[0.1, -2.0], [0.0, \"inf\"]]"),
        ] {
            let value = parse(0, text).unwrap();
            let tensor = &inputs(std::slice::from_ref(&value), &[of(element, &[2])]).unwrap()[0];
            let there = nested(tensor);
            let narrow = matches!(element, ElementType::F16 | ElementType::Bf16);
            if narrow {
                // Written in full, it is what the nearest number of the type is.
                let again = inputs(std::slice::from_ref(&there), &[of(element, &[2])]).unwrap();
                assert_eq!(&again[0], tensor, "{text}");
            } else {
                assert_eq!(there, value, "{element}");
            }
        }
    }

    #[test]
    fn dimensions_are_lists_in_lists() {
        for (dimensions, text) in
            [(&[][..], "5"), (&[2, 3], "[[1, 2, 3], [4, 5, 6]]"), (&[0], "[]"), (&[2, 0], "[[], []]"), (&[1, 1, 1], "[[[7]]]")]
        {
            let value = parse(0, text).unwrap();
            let tensors = inputs(std::slice::from_ref(&value), &[of(ElementType::S32, dimensions)]).unwrap();
            assert_eq!(written(&nested(&tensors[0])), text);
        }
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        for (element, dimensions, text, says) in [
            (ElementType::F32, &[2][..], "[1, 2, 3]", "input 0 is a list of 3, where tensor<2xf32> has 2"),
            (ElementType::F32, &[2, 2], "[[1, 2], 3]", "input 0[1] is no list of 2, as tensor<2x2xf32> has there: 3"),
            (ElementType::F32, &[2, 2], "[[1, 2], [3, \"x\"]]", "input 0[1][1] is no f32: \"x\""),
            (ElementType::F32, &[], "[1]", "input 0 is no f32: [1]"),
            (ElementType::F32, &[], "\"1\"", "input 0 is no f32: \"1\""),
            (ElementType::F32, &[], "1e39", "input 0 is no f32: 1e+39"),
            (ElementType::F16, &[], "65520", "input 0 is no f16: 65520"),
            (ElementType::Bf16, &[], "-3.4e38", "input 0 is no bf16: -3.4e+38"),
            (ElementType::S8, &[], "128", "input 0 is no i8: 128"),
            (ElementType::U8, &[], "-1", "input 0 is no ui8: -1"),
            (ElementType::S32, &[], "1.5", "input 0 is no i32: 1.5"),
            (ElementType::Pred, &[], "1", "input 0 is no i1: 1"),
            (ElementType::C64, &[], "[1]", "input 0 is no complex<f32>: [1]"),
        ] {
            let value = parse(0, text).unwrap();
            assert_eq!(inputs(&[value], &[of(element, dimensions)]).unwrap_err(), says);
        }
        assert!(parse(3, "[1,").unwrap_err().starts_with("input 3 is no JSON: "));
        let scalar = of(ElementType::F32, &[]);
        assert_eq!(
            inputs(&[], std::slice::from_ref(&scalar)).unwrap_err(),
            "the program takes one input, a tensor<f32>; there is none: add --input JSON for each"
        );
        assert_eq!(inputs(&[Value::Null], &[]).unwrap_err(), "the program takes no input; there is one --input");
        let two = inputs(&[], &[scalar.clone(), scalar]).unwrap_err();
        assert!(two.starts_with("the program takes 2 inputs, tensor<f32>, tensor<f32>"), "{two}");
    }

    /// All of them: a number is the nearest to itself, and what lies between two goes to the even one.
    #[test]
    fn half_floats_are_rounded_to_the_nearest() {
        for bits in 0..=u16::MAX {
            let value = f16_value(bits);
            if value.is_nan() {
                assert!(f16_value(f16_bits(value).unwrap()).is_nan());
                continue;
            }
            assert_eq!(f16_bits(value), Some(bits), "{value}");
            if bits & 0x7fff < 0x7bff {
                let between = f64::midpoint(value, f16_value(bits + 1));
                assert_eq!(f16_bits(between), Some(bits + (bits & 1)), "{between}");
            }
        }
        for bits in 0..=u16::MAX {
            let single = |bits: u16| f64::from(f32::from_bits(u32::from(bits) << 16));
            let value = single(bits);
            if value.is_nan() {
                continue;
            }
            assert_eq!(bf16_bits(value), Some(bits), "{value}");
            if bits & 0x7fff < 0x7f7f {
                let between = f64::midpoint(value, single(bits + 1));
                assert_eq!(bf16_bits(between), Some(bits + (bits & 1)), "{between}");
                // A little above the middle, by less than an f32 tells apart.
                let above = between * (1.0 + 1e-12);
                assert_eq!(bf16_bits(above), Some(bits + 1), "{above}");
            }
        }
    }
}
