// Google's client of Cloud Storage for Node, unmodified, against STORAGE_EMULATOR_HOST.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const {Readable} = require('node:stream');
const {pipeline} = require('node:stream/promises');
const {after, before, test} = require('node:test');
const {Storage} = require('@google-cloud/storage');

const LARGE = Buffer.alloc(3 << 20, 'abcdefghijk');
const storage = new Storage({retryOptions: {autoRetry: false}});
const bucket = storage.bucket('node-bucket');

function refused(code, pattern) {
  return error => {
    assert.equal(error.code, code);
    assert.match(error.message, pattern);
    return true;
  };
}

async function text(file) {
  const [content] = await file.download({validation: 'crc32c'});
  return content.toString();
}

before(async () => {
  const [made] = await storage.createBucket(bucket.name, {
    location: 'EU',
    versioning: {enabled: true},
    enableObjectRetention: true,
  });
  assert.equal(made.metadata.location, 'EU');
});

after(async () => {
  await bucket.deleteFiles({versions: true, force: true});
  await bucket.delete();
  assert.deepEqual(await bucket.exists(), [false]);
});

test('a bucket is found, and its metadata changes', async () => {
  const [buckets] = await storage.getBuckets({prefix: 'node-'});
  assert.deepEqual(buckets.map(one => one.name), [bucket.name]);
  await bucket.setLabels({env: 'test'});
  assert.deepEqual((await bucket.getLabels())[0], {env: 'test'});
  await bucket.setStorageClass('nearline');
  assert.equal((await bucket.getMetadata())[0].storageClass, 'NEARLINE');
  await bucket.setStorageClass('standard');
  await assert.rejects(storage.createBucket(bucket.name), refused(409, /./));
});

test('contents go up in one request and in several, and come down with their digests', async () => {
  for (const resumable of [false, true]) {
    for (const content of [Buffer.alloc(0), Buffer.from('hello'), LARGE]) {
      const file = bucket.file(`up/${resumable} ü/${content.length}`);
      await file.save(content, {
        resumable,
        validation: 'md5',
        metadata: {contentType: 'text/plain', metadata: {k: 'v'}},
      });
      for (const validation of ['crc32c', 'md5']) {
        const [there] = await file.download({validation});
        assert.equal(Buffer.compare(there, content), 0);
      }
      const [metadata] = await file.getMetadata();
      assert.equal(metadata.contentType, 'text/plain');
      assert.deepEqual(metadata.metadata, {k: 'v'});
      assert.equal(metadata.size, String(content.length));
    }
  }
});

test('a stream goes up in chunks', async () => {
  const file = bucket.file('chunks');
  const source = Readable.from([LARGE.subarray(0, 1000), LARGE.subarray(1000)]);
  await pipeline(source, file.createWriteStream({resumable: true, chunkSize: 1 << 20}));
  const [there] = await file.download();
  assert.equal(Buffer.compare(there, LARGE), 0);
});

test('a file of the disk goes up packed, and comes down as it was', async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'node-'));
  try {
    const source = path.join(folder, 'source.txt');
    fs.writeFileSync(source, 'hello '.repeat(1000));
    const [file] = await bucket.upload(source, {gzip: true, destination: 'packed.txt'});
    assert.equal(file.metadata.contentEncoding, 'gzip');
    assert.equal(await text(file), 'hello '.repeat(1000));
    const target = path.join(folder, 'target.txt');
    await file.download({destination: target});
    assert.equal(fs.readFileSync(target, 'utf8'), 'hello '.repeat(1000));
    const [raw] = await file.download({decompress: false});
    assert.equal(raw.readUInt16BE(), 0x1f8b);
  } finally {
    fs.rmSync(folder, {recursive: true});
  }
});

test('a part of a content comes down', async () => {
  const file = bucket.file('part');
  await file.save('0123456789');
  const pieces = await file.createReadStream({start: 2, end: 4, validation: false}).toArray();
  assert.equal(Buffer.concat(pieces).toString(), '234');
});

test('a listing has pages and prefixes', async () => {
  const names = ['l/a', 'l/b/1', 'l/b/2', 'l/c', 'l/d/1'];
  await Promise.all(names.map(name => bucket.file(name).save('1', {resumable: false})));
  const [all] = await bucket.getFiles({prefix: 'l/'});
  assert.deepEqual(all.map(one => one.name), names);
  const found = [];
  let query = {prefix: 'l/', maxResults: 2, autoPaginate: false};
  for (let pages = 0; query; pages++) {
    assert.ok(pages < 3);
    const [files, next] = await bucket.getFiles(query);
    found.push(...files.map(one => one.name));
    query = next;
  }
  assert.deepEqual(found, names);
  const [files, , reply] = await bucket.getFiles({
    prefix: 'l/',
    delimiter: '/',
    autoPaginate: false,
  });
  assert.deepEqual(files.map(one => one.name), ['l/a', 'l/c']);
  assert.deepEqual(reply.prefixes, ['l/b/', 'l/d/']);
  const [matched] = await bucket.getFiles({matchGlob: 'l/*/1'});
  assert.deepEqual(matched.map(one => one.name), ['l/b/1', 'l/d/1']);
});

test('metadata changes, and a null removes', async () => {
  const file = bucket.file('metadata');
  await file.save('1');
  await file.setMetadata({cacheControl: 'no-store', metadata: {a: '1', b: '2'}});
  await file.setMetadata({metadata: {a: null}});
  const [metadata] = await file.getMetadata();
  assert.deepEqual([metadata.cacheControl, metadata.metadata], ['no-store', {b: '2'}]);
  await file.setStorageClass('coldline');
  assert.equal((await file.getMetadata())[0].storageClass, 'COLDLINE');
});

test('what is held or retained is not deleted', async () => {
  const file = bucket.file('held');
  await file.save('1');
  await file.setMetadata({temporaryHold: true});
  await assert.rejects(file.delete(), refused(403, /temporary hold/i));
  await file.setMetadata({temporaryHold: false, eventBasedHold: true});
  await assert.rejects(file.save('2'), refused(403, /event-based hold/i));
  const until = new Date(Date.now() + 3_600_000).toISOString();
  await file.setMetadata({
    eventBasedHold: false,
    retention: {mode: 'Unlocked', retainUntilTime: until},
  });
  const {generation} = (await file.getMetadata())[0];
  const version = bucket.file('held', {generation});
  await assert.rejects(version.delete(), refused(403, /retention/i));
  await file.setMetadata({retention: null}, {overrideUnlockedRetention: true});
  await version.delete();
  assert.deepEqual(await file.exists(), [false]);
});

test('preconditions hold', async () => {
  const file = bucket.file('conditions');
  await file.save('1', {preconditionOpts: {ifGenerationMatch: 0}});
  await assert.rejects(
    file.save('2', {resumable: false, preconditionOpts: {ifGenerationMatch: 0}}),
    refused(412, /./),
  );
  const [{generation, metageneration}] = await file.getMetadata();
  await file.setMetadata({metadata: {a: '1'}}, {ifMetagenerationMatch: metageneration});
  await assert.rejects(
    file.setMetadata({metadata: {a: '2'}}, {ifMetagenerationMatch: metageneration}),
    refused(412, /./),
  );
  await assert.rejects(file.delete({ifGenerationMatch: 1}), refused(412, /./));
  await file.delete({ifGenerationMatch: generation});
  await assert.rejects(file.getMetadata(), refused(404, /No such object/));
});

test('an object is copied, moved, renamed and put together', async () => {
  const [a, b] = [bucket.file('of/a'), bucket.file('of/b')];
  await a.save('a', {metadata: {metadata: {k: 'v'}}});
  await a.copy(b);
  assert.deepEqual((await b.getMetadata())[0].metadata, {k: 'v'});
  await b.move('of/c');
  assert.deepEqual(await b.exists(), [false]);
  await bucket.file('of/c').rename('of/d');
  await bucket.file('of/d').moveFileAtomic('of/e');
  const [whole] = await bucket.combine(['of/a', 'of/e'], 'of/all');
  assert.equal(await text(whole), 'aa');
  assert.equal((await whole.getMetadata())[0].componentCount, 2);
});

test('of an object that was replaced, the version before is there', async () => {
  const file = bucket.file('versions');
  await file.save('old');
  const {generation} = (await file.getMetadata())[0];
  await file.save('new');
  assert.equal(await text(bucket.file('versions', {generation})), 'old');
  const [versions] = await bucket.getFiles({prefix: 'versions', versions: true});
  assert.equal(versions.length, 2);
  await file.delete();
  assert.deepEqual(await file.exists(), [false]);
  assert.equal(await text(bucket.file('versions', {generation})), 'old');
});
