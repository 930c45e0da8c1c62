// Runs one case with franz-go: main CASE --kafka H:P --prefix P --phase N.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	kafka  string
	prefix string
)

func name(suffix string) string { return prefix + "-" + suffix }

func client(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(kafka), kgo.AllowAutoTopicCreation()}, options...)...)
}

func create(ctx context.Context, topic string, partitions int32) error {
	c, err := client()
	if err != nil {
		return err
	}
	defer c.Close()
	request := kmsg.NewPtrCreateTopicsRequest()
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, partitions, 1
	request.Topics = append(request.Topics, t)
	request.TimeoutMillis = 10000
	response, err := request.RequestWith(ctx, c)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(response.Topics[0].ErrorCode)
}

func produce(ctx context.Context, c *kgo.Client, topic string, from, to int) error {
	var records []*kgo.Record
	for i := from; i < to; i++ {
		records = append(records, &kgo.Record{
			Topic: topic, Key: []byte(fmt.Sprint(i % 5)), Value: []byte(fmt.Sprint(i)),
			Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "a", Value: nil}},
		})
	}
	return c.ProduceSync(ctx, records...).FirstErr()
}

func consume(ctx context.Context, c *kgo.Client, count int) ([]*kgo.Record, error) {
	var got []*kgo.Record
	for len(got) < count {
		fetches := c.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return got, fmt.Errorf("%d of %d records: %w", len(got), count, err)
		}
		for _, e := range fetches.Errors() {
			return got, fmt.Errorf("fetch of %s/%d: %w", e.Topic, e.Partition, e.Err)
		}
		got = append(got, fetches.Records()...)
	}
	return got, nil
}

// Produces with default settings (idempotent, acks all) and consumes.
func produceConsume(ctx context.Context) error {
	topic := name("t")
	if err := create(ctx, topic, 3); err != nil {
		return err
	}
	c, err := client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := produce(ctx, c, topic, 0, 1000); err != nil {
		return err
	}
	got, err := consume(ctx, c, 1000)
	if err != nil {
		return err
	}
	last := map[string]int{}
	for _, r := range got {
		var value int
		fmt.Sscan(string(r.Value), &value)
		if before, ok := last[string(r.Key)]; ok && before >= value {
			return fmt.Errorf("key %s: %d after %d", r.Key, value, before)
		}
		last[string(r.Key)] = value
		if len(r.Headers) != 2 || string(r.Headers[0].Value) != "1" || r.Headers[1].Value != nil {
			return fmt.Errorf("headers %v", r.Headers)
		}
	}
	return nil
}

// Two members share a group; the one left takes over; committed offsets resume.
func group(ctx context.Context) error {
	topic, group := name("t"), name("g")
	if err := create(ctx, topic, 4); err != nil {
		return err
	}
	owned := [2]map[int32]bool{{}, {}}
	changed := make(chan func(), 100)
	member := func(i int) (*kgo.Client, error) {
		return client(
			kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.HeartbeatInterval(300*time.Millisecond),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
				changed <- func() {
					for _, p := range m[topic] {
						owned[i][p] = true
					}
				}
			}),
			kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
				changed <- func() {
					for _, p := range m[topic] {
						delete(owned[i], p)
					}
				}
			}),
		)
	}
	wait := func(what string, a, b int) error {
		for len(owned[0]) != a || len(owned[1]) != b {
			select {
			case apply := <-changed:
				apply()
			case <-ctx.Done():
				return fmt.Errorf("%s: members own %v and %v", what, owned[0], owned[1])
			}
		}
		return nil
	}
	first, err := member(0)
	if err != nil {
		return err
	}
	defer first.Close()
	poll := func(c *kgo.Client, values chan<- string) {
		for {
			fetches := c.PollFetches(ctx)
			if fetches.IsClientClosed() || ctx.Err() != nil {
				return
			}
			fetches.EachRecord(func(r *kgo.Record) { values <- string(r.Value) })
		}
	}
	values := make(chan string, 10000)
	go poll(first, values)
	if err := wait("one member owns all", 4, 0); err != nil {
		return err
	}
	second, err := member(1)
	if err != nil {
		return err
	}
	go poll(second, values)
	if err := wait("two members share", 2, 2); err != nil {
		return err
	}
	if err := produce(ctx, first, topic, 0, 200); err != nil {
		return err
	}
	seen := map[string]bool{}
	for len(seen) < 200 {
		select {
		case v := <-values:
			if seen[v] {
				return fmt.Errorf("record %s came twice", v)
			}
			seen[v] = true
		case <-ctx.Done():
			return fmt.Errorf("%d of 200 records", len(seen))
		}
	}
	second.Close()
	return wait("the one left takes over", 4, 0)
}

// Reads what was committed before, and only what comes after.
func resume(ctx context.Context) error {
	topic, group := name("t"), name("g")
	p, err := client()
	if err != nil {
		return err
	}
	defer p.Close()
	options := []kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}
	if err := create(ctx, topic, 1); err != nil {
		return err
	}
	if err := produce(ctx, p, topic, 0, 50); err != nil {
		return err
	}
	c, err := client(options...)
	if err != nil {
		return err
	}
	got, err := consume(ctx, c, 50)
	if err != nil {
		return err
	}
	if err := c.CommitRecords(ctx, got[29]); err != nil {
		return err
	}
	c.Close()
	c, err = client(options...)
	if err != nil {
		return err
	}
	defer c.Close()
	got, err = consume(ctx, c, 20)
	if err != nil {
		return err
	}
	if got[0].Offset != 30 {
		return fmt.Errorf("resumed at %d", got[0].Offset)
	}
	return nil
}

// Each codec, one producer each.
func compression(ctx context.Context) error {
	topic := name("t")
	codecs := []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	}
	if err := create(ctx, topic, 1); err != nil {
		return err
	}
	for i, codec := range codecs {
		c, err := client(kgo.ProducerBatchCompression(codec))
		if err != nil {
			return err
		}
		err = produce(ctx, c, topic, i*100, (i+1)*100)
		c.Close()
		if err != nil {
			return err
		}
	}
	c, err := client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer c.Close()
	got, err := consume(ctx, c, 500)
	if err != nil {
		return err
	}
	sort.Slice(got, func(a, b int) bool { return got[a].Offset < got[b].Offset })
	for i, r := range got {
		if string(r.Value) != fmt.Sprint(i) {
			return fmt.Errorf("offset %d holds %s", r.Offset, r.Value)
		}
	}
	return nil
}

func main() {
	cases := map[string]func(context.Context) error{
		"franz/produce_consume": produceConsume,
		"franz/group":           group,
		"franz/resume":          resume,
		"franz/compression":     compression,
	}
	which := os.Args[1]
	flags := flag.NewFlagSet("franz", flag.ExitOnError)
	flags.StringVar(&kafka, "kafka", "", "")
	flags.StringVar(&prefix, "prefix", "try", "")
	flags.String("amqp", "", "")
	flags.String("mqtt", "", "")
	flags.Int("phase", 1, "")
	_ = flags.Parse(os.Args[2:])
	run, ok := cases[which]
	err := fmt.Errorf("no case %s", which)
	if ok {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Second)
		defer cancel()
		err = run(ctx)
	}
	if err != nil {
		text, _ := json.Marshal(map[string]string{"error": err.Error()})
		fmt.Println(string(text))
		os.Exit(1)
	}
}
