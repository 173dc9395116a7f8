// Driver of kafkajs. See ../README.md for the protocol.
'use strict'

const readline = require('node:readline')
const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs')
const lz4 = require('lz4-napi')
const snappy = require('snappyjs')
const { ZstdCodec } = require('zstd-codec')
const { version } = require('kafkajs/package.json')

const OPERATION_MS = 30_000
const [, , bootstrap] = process.argv

const decode = (text) => (text == null ? null : Buffer.from(text, 'base64'))
const encode = (data) => (data == null ? null : Buffer.from(data).toString('base64'))

// The Java clients frame snappy in blocks behind this header; raw snappy comes from others.
const XERIAL = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00])

function unsnap(data) {
  if (!data.subarray(0, 8).equals(XERIAL)) return Buffer.from(snappy.uncompress(data))
  const blocks = []
  for (let at = 16; at < data.length; ) {
    const length = data.readInt32BE(at)
    blocks.push(Buffer.from(snappy.uncompress(data.subarray(at + 4, at + 4 + length))))
    at += 4 + length
  }
  return Buffer.concat(blocks)
}

async function installCodecs() {
  const zstd = await new Promise((resolve) => ZstdCodec.run((found) => resolve(new found.Simple())))
  CompressionCodecs[CompressionTypes.Snappy] = () => ({
    compress: async ({ buffer }) => Buffer.from(snappy.compress(buffer)),
    decompress: async (data) => unsnap(data),
  })
  CompressionCodecs[CompressionTypes.LZ4] = () => ({
    compress: async ({ buffer }) => lz4.compressFrame(buffer),
    decompress: async (data) => lz4.decompressFrame(data),
  })
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: async ({ buffer }) => Buffer.from(zstd.compress(buffer)),
    decompress: async (data) => Buffer.from(zstd.decompress(data)),
  })
}

const codecs = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

class Driver {
  constructor() {
    this.kafka = new Kafka({
      clientId: 'driver',
      brokers: [bootstrap],
      logLevel: logLevel.NOTHING,
      retry: { initialRetryTime: 100, retries: 8 },
    })
    this.producers = new Map()
    this.serial = 0
  }

  async producer(idempotent) {
    if (!this.producers.has(idempotent)) {
      const producer = this.kafka.producer({ idempotent, allowAutoTopicCreation: true })
      await producer.connect()
      this.producers.set(idempotent, producer)
    }
    return this.producers.get(idempotent)
  }

  async withAdmin(work, options = {}) {
    const admin = this.kafka.admin(options)
    await admin.connect()
    try {
      return await work(admin)
    } finally {
      await admin.disconnect()
    }
  }

  async produce({ topic, partition, codec = 'none', acks = 'all', idempotent = false, records }) {
    const producer = await this.producer(idempotent)
    const messages = records.map((record) => ({
      key: decode(record.k),
      value: decode(record.v),
      headers: headersOf(record.h ?? []),
      ...(record.t == null ? {} : { timestamp: String(record.t) }),
      ...(partition == null ? {} : { partition }),
    }))
    const batch = { topic, messages, acks: acks === 'all' ? -1 : Number(acks), compression: codecs[codec] }
    try {
      const told = await producer.send(batch)
      if (partition == null || told.length === 0) return { results: records.map(() => ({})) }
      return { results: records.map((_, n) => ({ p: partition, o: Number(told[0].baseOffset) + n })) }
    } catch (error) {
      return { results: records.map(() => ({ error: nameOf(error) })) }
    }
  }

  async read({ topic, partition, count, from = {} }) {
    let offset = from.offset ?? -2
    if (from.time != null) offset = (await this.offset_at({ topic, partition, timestamp: from.time })).offset
    const consumer = this.kafka.consumer({ groupId: `reader-${process.pid}-${this.serial++}`, maxWaitTimeInMs: 300 })
    const records = []
    await consumer.connect()
    try {
      await consumer.subscribe({ topics: [topic], fromBeginning: true })
      await new Promise((resolve, reject) => {
        const late = setTimeout(resolve, OPERATION_MS)
        consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error))
        consumer
          .run({
            autoCommit: false,
            eachMessage: async ({ partition: number, message }) => {
              if (number !== partition || records.length >= count) return
              if (offset >= 0 && Number(message.offset) < offset) return
              records.push(recordOf(message))
              if (records.length === count) {
                clearTimeout(late)
                resolve()
              }
            },
          })
          .then(() => consumer.seek({ topic, partition, offset: String(offset) }), reject)
      })
    } finally {
      await consumer.disconnect()
    }
    return { records }
  }

  async offset_at({ topic, partition, timestamp }) {
    const found = await this.withAdmin((admin) => admin.fetchTopicOffsetsByTimestamp(topic, timestamp))
    const place = found.find((each) => each.partition === partition)
    // kafkajs answers with the end of the log where no record is young enough.
    return { offset: Number(place.offset) }
  }

  async watermarks({ topic, partition }) {
    const found = await this.withAdmin((admin) => admin.fetchTopicOffsets(topic))
    const place = found.find((each) => each.partition === partition)
    return { low: Number(place.low), high: Number(place.high) }
  }

  async partitions({ topic }) {
    const found = await this.withAdmin((admin) => admin.fetchTopicMetadata({ topics: [topic] }))
    return { partitions: found.topics[0].partitions.length }
  }

  async create({ topic, partitions, config = {} }) {
    const configEntries = Object.entries(config ?? {}).map(([name, value]) => ({ name, value }))
    const topics = [{ topic, numPartitions: partitions, replicationFactor: 1, configEntries }]
    if (!(await this.withAdmin((admin) => admin.createTopics({ topics })))) return { error: 'TOPIC_ALREADY_EXISTS' }
    return {}
  }

  async delete({ topic }) {
    // It takes a topic that nobody knows for one that is not known yet, and asks again for up to half a minute.
    const retry = { initialRetryTime: 100, retries: 3 }
    await this.withAdmin((admin) => admin.deleteTopics({ topics: [topic] }), { retry })
    return {}
  }

  async grow({ topic, partitions }) {
    await this.withAdmin((admin) => admin.createPartitions({ topicPartitions: [{ topic, count: partitions }] }))
    return {}
  }

  async delete_records({ topic, partition, before }) {
    await this.withAdmin(async (admin) => {
      // It looks for the leader only among topics that it has been asked about.
      await admin.fetchTopicOffsets(topic)
      await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(before) }] })
    })
    return { low: (await this.watermarks({ topic, partition })).low }
  }

  // kafkajs pushes what it receives; poll hands it out. `polled` is what a commit may cover.
  async join({ group, topics, session_ms }) {
    this.received = []
    this.polled = new Map()
    this.assignment = []
    this.group = group
    this.topic = topics[0]
    this.member = this.kafka.consumer({
      groupId: group,
      sessionTimeout: session_ms,
      heartbeatInterval: Math.max(Math.floor(session_ms / 10), 300),
      maxWaitTimeInMs: 300,
      metadataMaxAge: 5000,
    })
    const { GROUP_JOIN, REBALANCING, CRASH } = this.member.events
    this.member.on(GROUP_JOIN, ({ payload }) => {
      this.assignment = [...(payload.memberAssignment[this.topic] ?? [])].sort((a, b) => a - b)
    })
    this.member.on(REBALANCING, () => {
      this.assignment = []
    })
    this.member.on(CRASH, ({ payload }) => console.error('crash', payload.error))
    await this.member.connect()
    await this.member.subscribe({ topics, fromBeginning: true })
    // Not awaited: it ends only when the group has settled, and that needs the other members.
    this.member
      .run({
        autoCommit: false,
        eachMessage: async ({ partition, message }) => {
          this.received.push({ p: partition, o: Number(message.offset), v: encode(message.value) })
        },
      })
      .catch((error) => console.error('run', error))
    return {}
  }

  async poll({ for_ms, count }) {
    const deadline = Date.now() + for_ms
    while (this.received.length < count && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    const records = this.received.splice(0, count)
    for (const record of records) this.polled.set(record.p, record.o + 1)
    return { records, assignment: this.assignment }
  }

  async commit() {
    const offsets = [...this.polled]
      .filter(([partition]) => this.assignment.includes(partition))
      .map(([partition, offset]) => ({ topic: this.topic, partition, offset: String(offset) }))
    await this.member.commitOffsets(offsets)
    return {}
  }

  async leave() {
    await this.member.disconnect()
    return {}
  }

  async committed({ group, topic, partitions }) {
    const found = await this.withAdmin((admin) => admin.fetchOffsets({ groupId: group, topics: [topic] }))
    const byPartition = new Map(found[0].partitions.map((each) => [each.partition, Number(each.offset)]))
    return { offsets: partitions.map((number) => byPartition.get(number) ?? -1) }
  }
}

function headersOf(pairs) {
  const headers = {}
  for (const [name, value] of pairs) {
    const content = decode(value)
    headers[name] = name in headers ? [].concat(headers[name], [content]) : content
  }
  return headers
}

function recordOf(message) {
  const headers = []
  for (const [name, value] of Object.entries(message.headers ?? {})) {
    for (const each of Array.isArray(value) ? value : [value]) headers.push([name, encode(each)])
  }
  return {
    o: Number(message.offset),
    k: encode(message.key),
    v: encode(message.value),
    t: Number(message.timestamp),
    h: headers,
  }
}

function nameOf(error) {
  for (let each = error; each; each = each.cause ?? each.originalError) {
    if (each.errors?.length) return nameOf(each.errors[0])
    if (each.type) return each.type
    if (!each.cause && !each.originalError) return each.name
  }
  return 'UNKNOWN'
}

async function main() {
  await installCodecs()
  const driver = new Driver()
  const say = (message) => process.stdout.write(JSON.stringify(message) + '\n')
  say({
    client: 'kafkajs',
    version,
    can: [
      ...['produce', 'read', 'offset_at', 'watermarks', 'partitions', 'create', 'delete', 'grow', 'join', 'committed'],
      ...['delete_records', 'idempotence', 'create_on_produce', 'no_null_headers'],
      ...Object.keys(codecs).map((codec) => `codec:${codec}`),
    ],
  })
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { op, ...fields } = JSON.parse(line)
    try {
      say(await driver[op](fields))
    } catch (error) {
      console.error(op, error)
      say({ error: nameOf(error) })
    }
  }
  process.exit(0)
}

main()
