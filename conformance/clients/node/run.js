'use strict';
// Runs one case with amqplib or MQTT.js: run.js CASE --amqp H:P --mqtt H:P --prefix P --phase N.

const { parseArgs } = require('node:util');

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: Object.fromEntries(
    ['kafka', 'amqp', 'mqtt', 'prefix', 'phase'].map((name) => [name, { type: 'string' }]),
  ),
});
const name = (suffix) => `${values.prefix}-${suffix}`;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function equal(actual, expected, what) {
  if (JSON.stringify(actual) !== JSON.stringify(expected)) {
    throw new Error(`${what}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`);
  }
}

async function until(condition, what, ms = 10000) {
  const end = Date.now() + ms;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await sleep(10);
  }
}

const amqp = async () => require('amqplib').connect(`amqp://guest:guest@${values.amqp}`);

async function amqplibWork() {
  const connection = await amqp();
  const channel = await connection.createConfirmChannel();
  const { queue } = await channel.assertQueue(name('q'), { durable: true });
  for (let i = 0; i < 500; i++) {
    channel.sendToQueue(queue, Buffer.from(String(i)), {
      persistent: true, contentType: 'text/plain', headers: { i, text: 'é', list: [1, 'two'] },
    });
  }
  await channel.waitForConfirms();
  equal((await channel.checkQueue(queue)).messageCount, 500, 'message count');
  const seen = [[], []];
  for (const who of [0, 1]) {
    const consumer = await connection.createChannel();
    await consumer.prefetch(20);
    await consumer.consume(queue, (message) => {
      if (message === null) return; // the queue was deleted
      seen[who].push(message);
      setTimeout(() => consumer.ack(message), 1);
    });
  }
  await until(() => seen[0].length + seen[1].length >= 500, '500 deliveries');
  await sleep(200);
  const all = [...seen[0], ...seen[1]].map((m) => Number(m.content));
  equal(all.sort((a, b) => a - b), [...Array(500).keys()], 'each once');
  if (seen.some((list) => list.length < 50)) throw new Error(`shares ${seen.map((l) => l.length)}`);
  const { properties } = seen[0][0];
  equal([properties.contentType, properties.deliveryMode, properties.headers.text, properties.headers.list],
    ['text/plain', 2, 'é', [1, 'two']], 'properties');
  await channel.deleteQueue(queue);
  await connection.close();
}

async function amqplibReturn() {
  const connection = await amqp();
  const channel = await connection.createConfirmChannel();
  const order = [];
  channel.on('return', (message) => order.push(`returned ${message.content} ${message.fields.replyCode}`));
  await new Promise((resolve, reject) => {
    channel.publish('amq.direct', name('nowhere'), Buffer.from('x'), { mandatory: true }, (error) => {
      order.push('confirmed');
      if (error) reject(error);
      else resolve();
    });
  });
  equal(order, ['returned x 312', 'confirmed'], 'order of return and confirm');
  await connection.close();
}

async function amqplibNack() {
  const connection = await amqp();
  const channel = await connection.createChannel();
  const { queue } = await channel.assertQueue('', { exclusive: true });
  for (const text of ['a', 'b', 'c']) channel.sendToQueue(queue, Buffer.from(text));
  const got = [];
  await channel.consume(queue, (message) => {
    got.push(`${message.content}${message.fields.redelivered ? '*' : ''}`);
    if (String(message.content) === 'b' && !message.fields.redelivered) channel.nack(message);
    else channel.ack(message);
  });
  await until(() => got.length === 4, 'four deliveries');
  equal([...got].sort(), ['a', 'b', 'b*', 'c'], 'deliveries');
  await connection.close();
}

async function amqplibErrors() {
  const connection = await amqp();
  const channel = await connection.createChannel();
  channel.on('error', () => {});
  let refused;
  try {
    await channel.checkQueue(name('missing'));
  } catch (error) {
    refused = error;
  }
  equal(refused && refused.code, 404, 'code of a passive declare of a missing queue');
  const { queue } = await (await connection.createChannel()).assertQueue('', { exclusive: true });
  if (!queue.startsWith('amq.gen-')) throw new Error(`server-named ${queue}`);
  await connection.close();
}

const mqtt = (options = {}) => require('mqtt').connectAsync(`mqtt://${values.mqtt}`, { reconnectPeriod: 0, ...options });

async function mqttQos(protocolVersion) {
  const subscriber = await mqtt({ protocolVersion });
  const publisher = await mqtt({ protocolVersion });
  const topic = name('t');
  const got = [];
  subscriber.on('message', (from, payload, packet) => got.push([from, String(payload), packet.qos]));
  await subscriber.subscribeAsync(`${topic}/#`, { qos: 2 });
  // Ten in flight at a time: every broker grants that many.
  for (let i = 0; i < 100; i += 10) {
    const ten = [...Array(10).keys()];
    await Promise.all(ten.map((j) => publisher.publishAsync(`${topic}/${j % 3}`, String(i + j), { qos: 2 })));
  }
  await until(() => got.length >= 100, '100 messages');
  await sleep(200);
  equal(got.map(([, text]) => Number(text)).sort((a, b) => a - b), [...Array(100).keys()], 'each once');
  await publisher.publishAsync(`${topic}/r`, 'kept', { qos: 1, retain: true });
  const late = await mqtt({ protocolVersion });
  const retained = [];
  late.on('message', (from, payload, packet) => retained.push([String(payload), packet.retain]));
  await late.subscribeAsync(`${topic}/+`, { qos: 1 });
  await until(() => retained.length === 1, 'the retained message');
  equal(retained[0], ['kept', true], 'retained');
  await publisher.publishAsync(`${topic}/r`, '', { qos: 1, retain: true });
  for (const client of [subscriber, publisher, late]) await client.endAsync();
}

async function mqttSession(protocolVersion) {
  const options = { protocolVersion, clientId: name('c'), clean: false };
  if (protocolVersion === 5) options.properties = { sessionExpiryInterval: 300 };
  const topic = name('t');
  let subscriber = await mqtt(options);
  await subscriber.subscribeAsync(topic, { qos: 1 });
  await subscriber.endAsync();
  const publisher = await mqtt({ protocolVersion });
  for (let i = 0; i < 30; i++) await publisher.publishAsync(topic, String(i), { qos: 1 });
  const got = [];
  let present;
  subscriber = require('mqtt').connect(`mqtt://${values.mqtt}`, { reconnectPeriod: 0, ...options });
  subscriber.on('message', (_from, payload) => got.push(Number(payload)));
  subscriber.on('connect', (connack) => { present = connack.sessionPresent; });
  await until(() => got.length >= 30, '30 messages that waited');
  equal([present, got], [true, [...Array(30).keys()]], 'session present and messages in order');
  await subscriber.endAsync();
  await publisher.endAsync();
}

const cases = {
  'amqplib/confirm_and_competing_consumers': amqplibWork,
  'amqplib/mandatory_return': amqplibReturn,
  'amqplib/nack_requeues': amqplibNack,
  'amqplib/errors': amqplibErrors,
  'mqttjs/qos2_and_retained_v311': () => mqttQos(4),
  'mqttjs/qos2_and_retained_v5': () => mqttQos(5),
  'mqttjs/session_resume_v311': () => mqttSession(4),
  'mqttjs/session_resume_v5': () => mqttSession(5),
};

(async () => {
  const run = cases[positionals[0]];
  if (!run) throw new Error(`no case ${positionals[0]}`);
  await run();
})().then(
  () => process.exit(0),
  (error) => {
    console.log(JSON.stringify({ error: String(error && error.stack ? error.stack.split('\n')[0] : error) }));
    process.exit(1);
  },
);
