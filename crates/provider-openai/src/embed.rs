//! Texts to vectors.

use bespoke_plugin_api::{
    CallCx, Code, EmbedRequest, Embeddings, Error, Result,
    serde::{self, Deserialize},
    serde_json::{self, json},
};

use crate::{
    client::{Ask, Client},
    failure::Op,
};

/// Texts of one request.
const BATCH: usize = 128;

/// Most bytes of the vectors of one request.
const MAX_VECTORS: usize = 64 << 20;

/// One vector of unit length per text, in the order of the texts.
pub(crate) async fn embed(client: &Client, call: &CallCx, request: EmbedRequest) -> Result<Embeddings> {
    let mut vectors = Vec::with_capacity(request.texts.len());
    for texts in request.texts.chunks(BATCH) {
        call.check()?;
        let body = json!({ "model": client.settings.config.embedding_model, "input": texts, "encoding_format": "float" });
        let ask = Ask::json(Op::Embed, &body, client.settings.first_token());
        let (_, bytes) = client.fetch(call, &ask, MAX_VECTORS).await?;
        let batch = match serde_json::from_slice::<Reply>(&bytes) {
            Ok(reply) => in_order(reply.data, texts.len()),
            Err(e) => Err(format!("no vectors ({e})")),
        };
        match batch {
            Ok(batch) => vectors.extend(batch),
            Err(what) => return Err(client.nonsense(Op::Embed, &what, &String::from_utf8_lossy(&bytes)).await),
        }
    }
    if let Some(first) = vectors.first().map(Vec::len)
        && let Some(other) = vectors.iter().map(Vec::len).find(|length| *length != first)
    {
        let message = format!("{} answered with vectors of {first} and of {other} numbers", client.url(Op::Embed));
        return Err(Error::new(Code::LLM_COMPLETION_FAILED, message));
    }
    Ok(Embeddings::new(vectors))
}

#[derive(Deserialize)]
#[serde(crate = "serde")]
struct Reply {
    data: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(crate = "serde")]
struct Item {
    #[serde(default)]
    index: Option<usize>,
    embedding: Vec<f32>,
}

/// Servers may answer in any order and say which text is meant; those that do not say answer in order.
fn in_order(items: Vec<Item>, count: usize) -> Result<Vec<Vec<f32>>, String> {
    if items.len() != count {
        return Err(format!("{} vectors for {count} texts", items.len()));
    }
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; count];
    for (at, item) in items.into_iter().enumerate() {
        let index = item.index.unwrap_or(at);
        match vectors.get_mut(index) {
            Some(place @ None) => *place = Some(unit(item.embedding)?),
            Some(Some(_)) => return Err(format!("two vectors for text {index}")),
            None => return Err(format!("a vector for text {index} of {count}")),
        }
    }
    vectors.into_iter().map(|vector| vector.ok_or_else(|| "too few vectors".to_owned())).collect()
}

/// Of unit length. A vector of zeros has no direction and stays what it is.
fn unit(mut vector: Vec<f32>) -> Result<Vec<f32>, String> {
    if vector.is_empty() {
        return Err("a vector without numbers".into());
    }
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if !length.is_finite() {
        return Err("a vector that is not finite".into());
    }
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
    Ok(vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(index: impl Into<Option<usize>>, embedding: &[f32]) -> Item {
        Item { index: index.into(), embedding: embedding.to_vec() }
    }

    #[test]
    fn vectors_come_in_the_order_of_the_texts_and_of_unit_length() {
        let vectors = in_order(vec![item(1, &[0.0, 2.0]), item(0, &[3.0, 4.0]), item(2, &[0.0, 0.0])], 3).unwrap();
        assert_eq!(vectors, [[0.6, 0.8], [0.0, 1.0], [0.0, 0.0]]);
        let unnumbered = in_order(vec![item(None, &[1.0]), item(None, &[-5.0])], 2).unwrap();
        assert_eq!(unnumbered, [[1.0], [-1.0]]);
    }

    #[test]
    fn vectors_that_do_not_fit_the_texts_are_refused() {
        for (items, count, why) in [
            (vec![], 1, "0 vectors for 1 texts"),
            (vec![item(0, &[1.0]), item(0, &[1.0])], 2, "two vectors for text 0"),
            (vec![item(5, &[1.0])], 1, "a vector for text 5 of 1"),
            (vec![item(0, &[])], 1, "a vector without numbers"),
            (vec![item(0, &[f32::INFINITY])], 1, "a vector that is not finite"),
        ] {
            assert_eq!(in_order(items, count).unwrap_err(), why);
        }
    }
}
