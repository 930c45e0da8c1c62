//! For tests: valid request bodies of every api and version, out of random choices.

use bytes::{BufMut, Bytes, BytesMut};

use super::Api;
use super::schema::{Field, Shape, body};

/// Every served api in every served version.
pub(crate) fn every_version() -> impl Iterator<Item = (Api, i16)> {
    Api::ALL.iter().flat_map(|&api| {
        let range = api.versions();
        (range.min..=range.max).map(move |version| (api, version))
    })
}

/// Makes a valid body of a version out of random choices.
pub(crate) struct Maker<'a> {
    out: BytesMut,
    version: i16,
    flexible: bool,
    choices: std::iter::Cycle<std::slice::Iter<'a, u8>>,
}

impl Maker<'_> {
    pub(crate) fn body(api: Api, version: i16, choices: &[u8]) -> Bytes {
        let mut maker = Maker {
            out: BytesMut::new(),
            version,
            flexible: api.is_flexible(version),
            choices: choices.iter().cycle(),
        };
        maker.structure(body(api));
        maker.out.freeze()
    }

    fn choose(&mut self, below: u8) -> usize {
        usize::from(self.choices.next().copied().unwrap_or(0) % below)
    }

    fn structure(&mut self, fields: &'static [Field]) {
        for field in fields {
            if field.tag.is_none() && field.exists_in(self.version) {
                self.value(field.shape);
            }
        }
        if !self.flexible {
            return;
        }
        let known: Vec<&Field> = fields
            .iter()
            .filter(|f| f.tag.is_some() && f.exists_in(self.version))
            .collect();
        let known = &known[..self.choose(known.len() as u8 + 1)];
        let unknown = self.choose(3);
        self.varint(known.len() + unknown);
        for field in known {
            self.varint(field.tag.unwrap() as usize);
            let outer = std::mem::take(&mut self.out);
            self.value(field.shape);
            let content = std::mem::replace(&mut self.out, outer);
            self.varint(content.len());
            self.out.put_slice(&content);
        }
        for tag in 0..unknown {
            let size = self.choose(40);
            self.varint(tag + 1000);
            self.varint(size);
            self.out.put_bytes(0xAB, size);
        }
    }

    fn value(&mut self, shape: Shape) {
        match shape {
            Shape::Fixed(size) => (0..size).for_each(|_| {
                let byte = self.choose(255) as u8;
                self.out.put_u8(byte);
            }),
            Shape::String => {
                let size = self.choose(200);
                if self.flexible {
                    self.varint(size + 1)
                } else {
                    self.out.put_i16(size as i16)
                }
                self.out.put_bytes(b'a', size);
            }
            Shape::Bytes => {
                let size = self.choose(200);
                self.count(size);
                self.out.put_bytes(0xCD, size);
            }
            Shape::Struct(fields) => self.structure(fields),
            Shape::Structs(fields) => self.elements(|maker| maker.structure(fields)),
            Shape::FixedArray(size) => self.elements(|maker| maker.value(Shape::Fixed(size))),
            Shape::Strings => self.elements(|maker| maker.value(Shape::String)),
        }
    }

    fn elements(&mut self, mut element: impl FnMut(&mut Self)) {
        let count = self.choose(4);
        self.count(count);
        (0..count).for_each(|_| element(self));
    }

    fn count(&mut self, count: usize) {
        if self.flexible {
            self.varint(count + 1)
        } else {
            self.out.put_i32(count as i32)
        }
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.out.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.out.put_u8(value as u8);
    }
}
