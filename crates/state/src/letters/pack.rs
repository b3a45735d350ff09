//! Messages as rows: JSON for people and programs, and the bytes of files beside it. Bytes in JSON would be four times as many.

use bespoke_plugin_api::{Attachment, bytes::Bytes};

/// Takes the bytes out of files: each behind its length. `None` when there are none.
pub(crate) fn pack(files: &mut [Attachment]) -> Option<Vec<u8>> {
    if files.iter().all(|file| file.data.is_empty()) {
        return None;
    }
    let mut packed = Vec::with_capacity(files.iter().map(|file| file.data.len() + 8).sum());
    for file in files {
        let data = std::mem::take(&mut file.data);
        packed.extend_from_slice(&(data.len() as u64).to_le_bytes());
        packed.extend_from_slice(&data);
    }
    Some(packed)
}

/// Puts them back; `None` when they are not what was packed.
pub(crate) fn unpack(files: &mut [Attachment], packed: Option<Vec<u8>>) -> Option<()> {
    let Some(packed) = packed else { return Some(()) };
    let mut rest = Bytes::from(packed);
    for file in files {
        let length = rest.get(..8)?.try_into().ok().map(u64::from_le_bytes)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= rest.len() - 8)?;
        let _ = rest.split_to(8);
        file.data = rest.split_to(length);
    }
    rest.is_empty().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_comes_back_and_nothing_else_does() {
        let files =
            vec![Attachment::voice("audio/ogg", vec![1, 2, 3]), Attachment::new("text/plain", vec![]), Attachment::new("a/b", vec![4])];
        let mut light = files.clone();
        let packed = pack(&mut light).unwrap();
        assert!(light.iter().all(|file| file.data.is_empty()));
        let mut again = light.clone();
        assert_eq!((unpack(&mut again, Some(packed.clone())), &again), (Some(()), &files));
        for cut in 0..packed.len() {
            assert_eq!(unpack(&mut light.clone(), Some(packed[..cut].to_vec())), None, "{cut}");
        }
        assert_eq!(unpack(&mut light[..2].to_vec(), Some(packed)), None);
        assert_eq!((pack(&mut light[1..2]), unpack(&mut light[1..2], None)), (None, Some(())));
    }
}
