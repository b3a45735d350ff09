//! Values on the side of the host: an element type, dimensions, and bytes in the machine's order, the last dimension varying fastest.

use std::fmt;

use crate::error::PjrtError;

/// What an element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ElementType {
    /// A truth value: one byte, 0 or 1.
    Pred,
    /// A signed integer of 8 bits.
    S8,
    /// A signed integer of 16 bits.
    S16,
    /// A signed integer of 32 bits.
    S32,
    /// A signed integer of 64 bits.
    S64,
    /// An unsigned integer of 8 bits.
    U8,
    /// An unsigned integer of 16 bits.
    U16,
    /// An unsigned integer of 32 bits.
    U32,
    /// An unsigned integer of 64 bits.
    U64,
    /// A float of IEEE 754 with 16 bits.
    F16,
    /// A float of IEEE 754 with 32 bits.
    F32,
    /// A float of IEEE 754 with 64 bits.
    F64,
    /// The first 16 bits of an `F32`.
    Bf16,
    /// Two `F32`: real and imaginary.
    C64,
    /// Two `F64`: real and imaginary.
    C128,
}

/// Type, its number in `PJRT_Buffer_Type`, its number in XLA's `PrimitiveType`, bytes, and the name in StableHLO.
const TYPES: [(ElementType, u32, u64, usize, &str); 15] = [
    (ElementType::Pred, 1, 1, 1, "i1"),
    (ElementType::S8, 2, 2, 1, "i8"),
    (ElementType::S16, 3, 3, 2, "i16"),
    (ElementType::S32, 4, 4, 4, "i32"),
    (ElementType::S64, 5, 5, 8, "i64"),
    (ElementType::U8, 6, 6, 1, "ui8"),
    (ElementType::U16, 7, 7, 2, "ui16"),
    (ElementType::U32, 8, 8, 4, "ui32"),
    (ElementType::U64, 9, 9, 8, "ui64"),
    (ElementType::F16, 10, 10, 2, "f16"),
    (ElementType::F32, 11, 11, 4, "f32"),
    (ElementType::F64, 12, 12, 8, "f64"),
    (ElementType::Bf16, 13, 16, 2, "bf16"),
    (ElementType::C64, 14, 15, 8, "complex<f32>"),
    (ElementType::C128, 15, 18, 16, "complex<f64>"),
];

impl ElementType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        TYPES[self as usize].3
    }

    /// As StableHLO writes it, such as `f32` or `ui8`.
    pub const fn name(self) -> &'static str {
        TYPES[self as usize].4
    }

    pub(crate) const fn number(self) -> u32 {
        TYPES[self as usize].1
    }

    pub(crate) fn of_number(number: u32) -> Option<Self> {
        TYPES.iter().find(|row| row.1 == number).map(|row| row.0)
    }

    /// From the number of XLA's own messages, which differ from those of the C interface.
    pub(crate) fn of_primitive(number: u64) -> Option<Self> {
        TYPES.iter().find(|row| row.2 == number).map(|row| row.0)
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Element type and dimensions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// What the elements are.
    pub element: ElementType,
    /// How many there are in each direction, the outermost first; none for a scalar.
    pub dimensions: Vec<usize>,
}

impl TensorType {
    /// The type of tensors with these elements and dimensions.
    pub fn new(element: ElementType, dimensions: &[usize]) -> Self {
        TensorType { element, dimensions: dimensions.to_vec() }
    }

    /// Elements in all; `None` when there is no number for that.
    pub fn count(&self) -> Option<usize> {
        // Zero anywhere is zero, however large the others are.
        if self.dimensions.contains(&0) {
            return Some(0);
        }
        self.dimensions.iter().try_fold(1_usize, |all, n| all.checked_mul(*n))
    }

    /// Bytes in all; `None` when that is more than any machine has.
    pub fn bytes(&self) -> Option<usize> {
        self.count()?.checked_mul(self.element.size()).filter(|bytes| isize::try_from(*bytes).is_ok())
    }
}

impl fmt::Display for TensorType {
    /// As StableHLO writes it: `tensor<2x3xf32>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensor<")?;
        self.dimensions.iter().try_for_each(|n| write!(f, "{n}x"))?;
        write!(f, "{}>", self.element)
    }
}

/// A value of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    of: TensorType,
    data: Vec<u8>,
}

impl Tensor {
    /// From bytes, the last dimension varying fastest.
    ///
    /// # Errors
    /// [`PjrtError::Mismatch`] when there are more or fewer bytes than the type takes, or a truth value is neither 0 nor 1.
    pub fn new(of: TensorType, data: Vec<u8>) -> Result<Self, PjrtError> {
        if of.bytes() != Some(data.len()) {
            return Err(PjrtError::Mismatch(format!("{} bytes are no {of}", data.len())));
        }
        if of.element == ElementType::Pred && data.iter().any(|byte| *byte > 1) {
            return Err(PjrtError::Mismatch("a truth value is neither 0 nor 1".into()));
        }
        Ok(Tensor { of, data })
    }

    /// From numbers, the last dimension varying fastest.
    ///
    /// # Errors
    /// [`PjrtError::Mismatch`] when there are more or fewer than the dimensions say.
    pub fn of<T: Element>(dimensions: &[usize], values: &[T]) -> Result<Self, PjrtError> {
        let of = TensorType::new(T::TYPE, dimensions);
        if of.count() != Some(values.len()) {
            return Err(PjrtError::Mismatch(format!("{} elements are no {of}", values.len())));
        }
        let mut data = Vec::with_capacity(size_of_val(values));
        values.iter().for_each(|value| value.write(&mut data));
        Tensor::new(of, data)
    }

    /// Its type.
    pub fn tensor_type(&self) -> &TensorType {
        &self.of
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// Its elements, if they are of this type.
    pub fn values<T: Element>(&self) -> Option<Vec<T>> {
        (self.of.element == T::TYPE).then(|| self.data.chunks_exact(T::TYPE.size()).map(T::read).collect())
    }

    /// What a plugin wrote.
    pub(crate) fn from_device(of: TensorType, mut data: Vec<u8>) -> Self {
        if of.element == ElementType::Pred {
            data.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
        }
        Tensor { of, data }
    }
}

/// A type of Rust that is an element type. `F16` and `Bf16` have none: their bytes are what there is.
pub trait Element: Copy + sealed::Sealed {
    /// Which one.
    const TYPE: ElementType;
    #[doc(hidden)]
    fn write(self, to: &mut Vec<u8>);
    #[doc(hidden)]
    fn read(from: &[u8]) -> Self;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! elements {
    ($($rust:ty: $element:ident),*) => {$(
        impl sealed::Sealed for $rust {}
        impl Element for $rust {
            const TYPE: ElementType = ElementType::$element;
            fn write(self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_ne_bytes());
            }
            fn read(from: &[u8]) -> Self {
                let mut bytes = [0; size_of::<$rust>()];
                bytes.copy_from_slice(from);
                <$rust>::from_ne_bytes(bytes)
            }
        }
    )*};
}

elements!(i8: S8, i16: S16, i32: S32, i64: S64, u8: U8, u16: U16, u32: U32, u64: U64, f32: F32, f64: F64);

impl sealed::Sealed for bool {}
impl Element for bool {
    const TYPE: ElementType = ElementType::Pred;
    fn write(self, to: &mut Vec<u8>) {
        to.push(u8::from(self));
    }
    fn read(from: &[u8]) -> Self {
        from.first().is_some_and(|byte| *byte != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_the_table_stand_in_the_order_of_the_types() {
        for (n, row) in TYPES.iter().enumerate() {
            assert_eq!(row.0 as usize, n);
            assert_eq!(ElementType::of_number(row.0.number()), Some(row.0));
            assert_eq!(ElementType::of_primitive(row.2), Some(row.0));
        }
        assert_eq!(ElementType::of_number(0), None);
        assert_eq!(ElementType::of_primitive(13), None, "a tuple");
    }

    #[test]
    fn types_are_written_as_in_a_program() {
        let written = |element, dimensions: &[usize]| TensorType::new(element, dimensions).to_string();
        assert_eq!(written(ElementType::F32, &[2, 3]), "tensor<2x3xf32>");
        assert_eq!(written(ElementType::Pred, &[]), "tensor<i1>");
        assert_eq!(written(ElementType::C64, &[0]), "tensor<0xcomplex<f32>>");
    }

    #[test]
    fn sizes_that_no_machine_has_are_none() {
        let of = |dimensions: &[usize]| TensorType::new(ElementType::F64, dimensions).bytes();
        assert_eq!(of(&[]), Some(8));
        assert_eq!(of(&[usize::MAX, usize::MAX, 0]), Some(0));
        assert_eq!(of(&[usize::MAX, 2]), None);
        assert_eq!(of(&[usize::MAX / 8]), None);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Tensor::of(&[2, 2], &[1.0_f32; 3]).is_err());
        assert!(Tensor::new(TensorType::new(ElementType::F32, &[]), vec![0; 3]).is_err());
        assert!(Tensor::new(TensorType::new(ElementType::Pred, &[2]), vec![0, 2]).is_err());
        let tensor = Tensor::of(&[2], &[true, false]).unwrap();
        assert_eq!(tensor.values::<bool>(), Some(vec![true, false]));
        assert_eq!(tensor.values::<u8>(), None);
    }
}
