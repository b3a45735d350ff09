//! The two protobuf messages that PJRT's C interface passes as bytes: options of a compilation, written; the program that came out of
//! it, read for the types of its inputs, which the interface has no function for. Only the fields that are needed; field numbers are
//! those of XLA's `compile_options.proto`, `hlo.proto` and `xla_data.proto`.

use crate::tensor::{ElementType, TensorType};

/// `CompileOptionsProto` for a program of one replica and one partition, on the device of this id if one is named.
pub(crate) fn compile_options(device: Option<u32>) -> Vec<u8> {
    // ExecutableBuildOptionsProto: num_replicas = 4, num_partitions = 5, device_assignment = 9.
    let mut build = vec![4 << 3, 1, 5 << 3, 1];
    if let Some(device) = device {
        // DeviceAssignmentProto: replica_count = 1, computation_count = 2, computation_devices = 3 { replica_device_ids = 1 }.
        let mut ids = Vec::new();
        write_varint(&mut ids, u64::from(device));
        let mut devices = Vec::new();
        write_bytes(&mut devices, 1, &ids);
        let mut assignment = vec![1 << 3, 1, 2 << 3, 1];
        write_bytes(&mut assignment, 3, &devices);
        write_bytes(&mut build, 9, &assignment);
    }
    // CompileOptionsProto: executable_build_options = 3.
    let mut options = Vec::new();
    write_bytes(&mut options, 3, &build);
    options
}

fn write_varint(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn write_bytes(to: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    to.push(field << 3 | 2);
    write_varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

/// The types of the inputs of a program; `None` where they cannot be read, or one is no plain tensor.
pub(crate) fn inputs(format: &str, program: &[u8]) -> Option<Vec<TensorType>> {
    let module = match format {
        "hlo" => program,
        // HloModuleProtoWithConfig: hlo_module = 1.
        "hlo_with_config" => last(program, 1)?,
        _ => return None,
    };
    // HloModuleProto: host_program_shape = 4. ProgramShapeProto: parameters = 1.
    let shape = last(module, 4)?;
    let mut inputs = Vec::new();
    for field in Fields(shape) {
        if let (1, Content::Bytes(input)) = field? {
            inputs.push(tensor_type(input)?);
        }
    }
    Some(inputs)
}

/// `ShapeProto`: element_type = 2, dimensions = 3, is_dynamic_dimension = 6.
fn tensor_type(shape: &[u8]) -> Option<TensorType> {
    let (mut element, mut dimensions) = (None, Vec::new());
    for field in Fields(shape) {
        match field? {
            (2, Content::Number(number)) => element = Some(ElementType::of_primitive(number)?),
            (3, Content::Number(n)) => dimensions.push(dimension(n)?),
            (3, Content::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    dimensions.push(dimension(read_varint(&mut packed)?)?);
                }
            }
            (6, Content::Bytes(dynamic)) if dynamic.iter().any(|byte| *byte != 0) => return None,
            (6, Content::Number(1..)) => return None,
            _ => {}
        }
    }
    Some(TensorType { element: element?, dimensions })
}

fn dimension(number: u64) -> Option<usize> {
    usize::try_from(number.cast_signed()).ok()
}

enum Content<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

/// The fields of a message in their order; `None` where it is broken, and then no more.
struct Fields<'b>(&'b [u8]);

impl<'b> Iterator for Fields<'b> {
    type Item = Option<(u64, Content<'b>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'b> Fields<'b> {
    fn read(&mut self) -> Option<(u64, Content<'b>)> {
        let key = read_varint(&mut self.0)?;
        let content = match key & 7 {
            0 => Content::Number(read_varint(&mut self.0)?),
            1 => Content::Bytes(self.0.split_off(..8)?),
            2 => {
                let length = usize::try_from(read_varint(&mut self.0)?).ok()?;
                Content::Bytes(self.0.split_off(..length)?)
            }
            5 => Content::Bytes(self.0.split_off(..4)?),
            _ => return None,
        };
        Some((key >> 3, content))
    }
}

/// The content of a field that is a message; the last one counts.
fn last(message: &[u8], number: u64) -> Option<&[u8]> {
    let mut found = None;
    for field in Fields(message) {
        if let (n, Content::Bytes(bytes)) = field?
            && n == number
        {
            found = Some(bytes);
        }
    }
    found
}

fn read_varint(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *from.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_the_bytes_that_xla_reads() {
        assert_eq!(compile_options(None), [0x1a, 4, 0x20, 1, 0x28, 1]);
        assert_eq!(compile_options(Some(300)), [0x1a, 16, 0x20, 1, 0x28, 1, 0x4a, 10, 8, 1, 16, 1, 0x1a, 4, 0x0a, 2, 0xac, 2]);
    }

    /// A module with these inputs, as XLA writes it.
    fn module(inputs: &[&[u8]]) -> Vec<u8> {
        let (mut shape, mut module) = (Vec::new(), Vec::new());
        inputs.iter().for_each(|input| write_bytes(&mut shape, 1, input));
        write_bytes(&mut module, 1, b"name");
        write_bytes(&mut module, 4, &shape);
        module
    }

    #[test]
    fn inputs_are_read_and_what_cannot_be_is_not_made_up() {
        let matrix: &[u8] = &[2 << 3, 11, 3 << 3 | 2, 3, 2, 0x80, 1];
        let half: &[u8] = &[2 << 3, 16];
        let expected = vec![TensorType::new(ElementType::F32, &[2, 128]), TensorType::new(ElementType::Bf16, &[])];
        let plain = module(&[matrix, half]);
        assert_eq!(inputs("hlo", &plain), Some(expected.clone()));
        let mut with_config = Vec::new();
        write_bytes(&mut with_config, 1, &plain);
        assert_eq!(inputs("hlo_with_config", &with_config), Some(expected));
        assert_eq!(inputs("hlo", &module(&[])), Some(Vec::new()));
        assert_eq!(inputs("mlir", &plain), None);
        let tuple: &[u8] = &[2 << 3, 13];
        let dynamic: &[u8] = &[2 << 3, 11, 3 << 3, 4, 6 << 3 | 2, 1, 1];
        let negative: &[u8] = &[2 << 3, 11, 3 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        for bad in [tuple, dynamic, negative, &[2 << 3][..], &[3 << 3 | 2, 200][..], &[7][..], &[0xff; 11][..]] {
            assert_eq!(inputs("hlo", &module(&[bad])), None, "{bad:?}");
        }
        // Cut anywhere, it is no module or one whose inputs are not all there; it never takes the reader down.
        for end in 0..plain.len() {
            assert_ne!(inputs("hlo", &plain[..end]).map_or(0, |inputs| inputs.len()), 2, "{end}");
        }
    }
}
