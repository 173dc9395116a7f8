package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

type driver struct {
	bootstrap string
	producers map[string]*kgo.Client
	admin     *kadm.Client
	member    *member
}

// member is this process as one of a group.
type member struct {
	client   *kgo.Client
	lock     sync.Mutex
	assigned map[int32]bool
}

func (d *driver) serve(asked *request) (answer, error) {
	within, cancel := context.WithTimeout(context.Background(), operation)
	defer cancel()
	switch asked.Op {
	case "produce":
		return d.produce(within, asked)
	case "read":
		return d.read(within, asked)
	case "join":
		return d.join(asked)
	case "poll":
		return d.poll(asked)
	case "commit":
		return answer{}, d.member.client.CommitUncommittedOffsets(within)
	case "leave":
		d.member.client.Close()
		d.member = nil
		return answer{}, nil
	}
	return d.administer(within, asked)
}

func (d *driver) administrator() (*kadm.Client, error) {
	if d.admin == nil {
		client, err := kgo.NewClient(kgo.SeedBrokers(d.bootstrap), kgo.MetadataMinAge(10*time.Millisecond))
		if err != nil {
			return nil, err
		}
		d.admin = kadm.NewClient(client)
	}
	return d.admin, nil
}

func (d *driver) administer(within context.Context, asked *request) (answer, error) {
	admin, err := d.administrator()
	if err != nil {
		return nil, err
	}
	switch asked.Op {
	case "offset_at":
		offset, err := d.offsetAt(within, asked.Topic, *asked.Partition, asked.Timestamp)
		return answer{"offset": offset}, err
	case "watermarks":
		starts, err := admin.ListStartOffsets(within, asked.Topic)
		if err != nil {
			return nil, err
		}
		ends, err := admin.ListEndOffsets(within, asked.Topic)
		if err != nil {
			return nil, err
		}
		low, _ := starts.Lookup(asked.Topic, *asked.Partition)
		high, _ := ends.Lookup(asked.Topic, *asked.Partition)
		return answer{"low": low.Offset, "high": high.Offset}, nil
	case "partitions":
		topics, err := admin.ListTopics(within, asked.Topic)
		if err != nil {
			return nil, err
		}
		return answer{"partitions": len(topics[asked.Topic].Partitions)}, topics[asked.Topic].Err
	case "create":
		config := map[string]*string{}
		for key, value := range asked.Config {
			config[key] = &value
		}
		_, err := admin.CreateTopic(within, number(asked.Partitions), 1, config, asked.Topic)
		return answer{}, err
	case "delete":
		told, err := admin.DeleteTopic(within, asked.Topic)
		if err == nil {
			err = told.Err
		}
		return answer{}, err
	case "grow":
		told, err := admin.UpdatePartitions(within, int(number(asked.Partitions)), asked.Topic)
		if err == nil {
			err = told[asked.Topic].Err
		}
		return answer{}, err
	case "delete_records":
		before := kadm.Offsets{}
		before.Add(kadm.Offset{Topic: asked.Topic, Partition: *asked.Partition, At: asked.Before})
		told, err := admin.DeleteRecords(within, before)
		if err != nil {
			return nil, err
		}
		low, _ := told.Lookup(asked.Topic, *asked.Partition)
		return answer{"low": low.LowWatermark}, low.Err
	case "committed":
		return committed(within, admin, asked)
	}
	return nil, fmt.Errorf("no operation %s", asked.Op)
}

func committed(within context.Context, admin *kadm.Client, asked *request) (answer, error) {
	var partitions []int32
	if err := json.Unmarshal(asked.Partitions, &partitions); err != nil {
		return nil, err
	}
	told, err := admin.FetchOffsets(within, asked.Group)
	if err != nil {
		return nil, err
	}
	offsets := []int64{}
	for _, partition := range partitions {
		at := int64(-1)
		if found, ok := told.Lookup(asked.Topic, partition); ok {
			at = found.At
		}
		offsets = append(offsets, at)
	}
	return answer{"offsets": offsets}, nil
}

func number(raw json.RawMessage) int32 {
	var value int32
	if err := json.Unmarshal(raw, &value); err != nil {
		panic(err)
	}
	return value
}

func (d *driver) producer(asked *request) (*kgo.Client, error) {
	key := fmt.Sprint(asked.Codec, asked.Acks, asked.Idempotent)
	if client, ok := d.producers[key]; ok {
		return client, nil
	}
	codecs := map[string]kgo.CompressionCodec{
		"": kgo.NoCompression(), "none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	acks := map[string]kgo.Acks{"": kgo.AllISRAcks(), "all": kgo.AllISRAcks(), "1": kgo.LeaderAck(), "0": kgo.NoAck()}
	options := []kgo.Opt{
		kgo.SeedBrokers(d.bootstrap), kgo.AllowAutoTopicCreation(), kgo.ProducerLinger(50 * time.Millisecond),
		kgo.ProducerBatchCompression(codecs[asked.Codec]), kgo.RequiredAcks(acks[asked.Acks]),
		kgo.RecordPartitioner(chosen()), kgo.ProducerBatchMaxBytes(20_000_000), kgo.BrokerMaxWriteBytes(64 << 20),
		kgo.RecordDeliveryTimeout(operation), kgo.MetadataMinAge(100 * time.Millisecond),
		// It counts from the timestamp of a record, and those of the scenarios are old.
		kgo.RecordDeliveryTimeout(48 * time.Hour),
	}
	if !asked.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	client, err := kgo.NewClient(options...)
	if err == nil {
		d.producers[key] = client
	}
	return client, err
}

// chosen takes a record's own partition where it has one, and hashes keys where it has none.
func chosen() kgo.Partitioner {
	hashing := kgo.StickyKeyPartitioner(nil)
	return kgo.BasicConsistentPartitioner(func(topic string) func(*kgo.Record, int) int {
		hashed := hashing.ForTopic(topic)
		return func(each *kgo.Record, partitions int) int {
			if each.Partition >= 0 {
				return int(each.Partition)
			}
			return hashed.Partition(each, partitions)
		}
	})
}

func (d *driver) produce(within context.Context, asked *request) (answer, error) {
	client, err := d.producer(asked)
	if err != nil {
		return nil, err
	}
	var sent []*kgo.Record
	for _, given := range asked.Records {
		each := &kgo.Record{Topic: asked.Topic, Partition: -1, Key: decode(given.Key), Value: decode(given.Value)}
		if asked.Partition != nil {
			each.Partition = *asked.Partition
		}
		if given.Timestamp != nil {
			each.Timestamp = time.UnixMilli(*given.Timestamp)
		}
		for _, pair := range given.Headers {
			each.Headers = append(each.Headers, kgo.RecordHeader{Key: *pair[0], Value: decode(pair[1])})
		}
		sent = append(sent, each)
	}
	results := make([]answer, len(sent))
	var waiting sync.WaitGroup
	for n, each := range sent {
		waiting.Add(1)
		client.Produce(within, each, func(told *kgo.Record, err error) {
			if err != nil {
				results[n] = answer{"error": nameOf(err)}
			} else {
				results[n] = answer{"p": told.Partition, "o": told.Offset}
			}
			waiting.Done()
		})
	}
	waiting.Wait()
	return answer{"results": results}, nil
}

func (d *driver) offsetAt(within context.Context, topic string, partition int32, timestamp int64) (int64, error) {
	admin, err := d.administrator()
	if err != nil {
		return 0, err
	}
	told, err := admin.ListOffsetsAfterMilli(within, timestamp, topic)
	if err != nil {
		return 0, err
	}
	found, _ := told.Lookup(topic, partition)
	return found.Offset, found.Err
}

func (d *driver) read(within context.Context, asked *request) (answer, error) {
	from := kgo.NewOffset().AtStart()
	if asked.From.Offset != nil {
		from = kgo.NewOffset().At(*asked.From.Offset)
	} else if asked.From.Time != nil {
		from = kgo.NewOffset().AfterMilli(*asked.From.Time)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(d.bootstrap), kgo.FetchMaxWait(300*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{asked.Topic: {*asked.Partition: from}}))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	records := []answer{}
	for len(records) < asked.Count && within.Err() == nil {
		fetches := client.PollRecords(within, asked.Count-len(records))
		for _, failed := range fetches.Errors() {
			return nil, failed.Err
		}
		fetches.EachRecord(func(each *kgo.Record) {
			headers := []header{}
			for _, pair := range each.Headers {
				headers = append(headers, header{&pair.Key, encode(pair.Value)})
			}
			records = append(records, answer{"o": each.Offset, "k": encode(each.Key), "v": encode(each.Value),
				"t": each.Timestamp.UnixMilli(), "h": headers})
		})
	}
	return answer{"records": records}, nil
}

func (d *driver) join(asked *request) (answer, error) {
	m := &member{assigned: map[int32]bool{}}
	note := func(is bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, moved map[string][]int32) {
			m.lock.Lock()
			defer m.lock.Unlock()
			for _, partitions := range moved {
				for _, partition := range partitions {
					m.assigned[partition] = is
				}
			}
		}
	}
	session := time.Duration(asked.SessionMs) * time.Millisecond
	options := []kgo.Opt{
		kgo.SeedBrokers(d.bootstrap), kgo.ConsumerGroup(asked.Group), kgo.ConsumeTopics(asked.Topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.SessionTimeout(session),
		kgo.HeartbeatInterval(max(session/10, 300*time.Millisecond)), kgo.FetchMaxWait(300 * time.Millisecond),
		kgo.OnPartitionsAssigned(note(true)), kgo.OnPartitionsRevoked(note(false)), kgo.OnPartitionsLost(note(false)),
		kgo.MetadataMaxAge(5 * time.Second),
	}
	if asked.Instance != nil {
		options = append(options, kgo.InstanceID(*asked.Instance))
	}
	client, err := kgo.NewClient(options...)
	m.client = client
	d.member = m
	return answer{}, err
}

func (d *driver) poll(asked *request) (answer, error) {
	within, cancel := context.WithTimeout(context.Background(), time.Duration(asked.ForMs)*time.Millisecond)
	defer cancel()
	records := []answer{}
	for len(records) < asked.Count && within.Err() == nil {
		fetches := d.member.client.PollRecords(within, asked.Count-len(records))
		for _, failed := range fetches.Errors() {
			if !kerr.IsRetriable(failed.Err) && within.Err() == nil {
				return nil, failed.Err
			}
		}
		fetches.EachRecord(func(each *kgo.Record) {
			records = append(records, answer{"p": each.Partition, "o": each.Offset, "v": encode(each.Value)})
		})
	}
	d.member.lock.Lock()
	defer d.member.lock.Unlock()
	assignment := []int{}
	for partition, is := range d.member.assigned {
		if is {
			assignment = append(assignment, int(partition))
		}
	}
	sort.Ints(assignment)
	return answer{"records": records, "assignment": assignment}, nil
}
